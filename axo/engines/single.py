"""One device: no process group, no collectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn

from axo.engines import state, step
from axo.engines.base import MakeOptimizer, Meet
from axo.engines.scaling import LossScaling
from axo.types import Batch, Layout, Sums, Update


class Single:
    """Gradients are those of the loss sum times 1 / divisor; nothing else is done to them."""

    def __init__(
        self, *, device: str, autocast_dtype: torch.dtype | None, timeout_seconds: int, loss_scaling: bool = False
    ) -> None:
        del timeout_seconds  # there is nobody to wait for
        self.layout = Layout()
        self.device = torch.device(device)
        self._autocast_dtype = autocast_dtype
        self._loss_scaling = loss_scaling

    holds_whole = True
    reads_weights = True

    def construct(self, meet: Meet | None = None) -> AbstractContextManager[None]:
        del meet  # there is nobody to meet
        return nullcontext()

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer | None) -> None:
        self._objective = objective.to(self.device)
        self._optimizer = make_optimizer(self._objective) if make_optimizer else None
        self._parameters = list(state.trained_parameters(self._objective).values())
        self._scaling = LossScaling(self.device) if self._loss_scaling else None

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return [list(values)]

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        total = step.no_loss(micro_batches, self.device)
        for batch in micro_batches:
            total += step.backward(
                self._objective,
                batch,
                scale=1 / divisor,
                device=self.device,
                autocast_dtype=self._autocast_dtype,
                scaling=self._scaling,
            )
        return total.tolist()

    def update(self, *, lr: float, max_grad_norm: float) -> Update:
        assert self._optimizer is not None
        return step.update(self._optimizer, self._parameters, lr=lr, max_grad_norm=max_grad_norm, scaling=self._scaling)

    def evaluate(self, batches: Iterable[Batch]) -> Sums:
        mine = step.score(self._objective, batches, device=self.device, autocast_dtype=self._autocast_dtype)
        return step.sums(mine)

    def save_state(self, folder: Path) -> list[Path]:
        assert self._optimizer is not None
        return state.save_state(self._objective, self._optimizer, folder, scaling=self._scaling)

    def load_state(self, folder: Path) -> None:
        assert self._optimizer is not None
        state.load_state(self._objective, self._optimizer, folder, scaling=self._scaling)

    def full_weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        yield from state.named_weights(self._objective, trained_only=trained_only)

    def close(self) -> None:
        return
