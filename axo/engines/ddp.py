"""Every rank holds the whole model; gradients are averaged once a step (torch DistributedDataParallel)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from axo.engines import group, state, step
from axo.engines.base import MakeOptimizer, Meet
from axo.engines.scaling import LossScaling
from axo.plan.plan import DDPPlan
from axo.types import Batch, Sums, Update


class DDP:
    """DistributedDataParallel averages gradients over ranks, so the loss is scaled by world_size / divisor."""

    def __init__(
        self, *, device: str, autocast_dtype: torch.dtype | None, timeout_seconds: int, loss_scaling: bool = False,
        settings: DDPPlan = DDPPlan(),
    ) -> None:  # fmt: skip
        self._settings = settings
        self._autocast_dtype = autocast_dtype
        self._loss_scaling = loss_scaling
        self._timeout = timedelta(seconds=timeout_seconds)
        self._device_type = device

    holds_whole = True
    reads_weights = True

    @contextmanager
    def construct(self, meet: Meet | None = None) -> Iterator[None]:
        self.device, self.layout = group.join(self._device_type, timeout=self._timeout, meet=meet)
        yield

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer | None) -> None:
        self._objective = objective.to(self.device)
        self._optimizer = make_optimizer(self._objective) if make_optimizer else None
        self._parameters = list(state.trained_parameters(self._objective).values())
        self._scaling = LossScaling(self.device) if self._loss_scaling else None
        self._module: nn.Module | None = DistributedDataParallel(
            self._objective,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            forward_sync_buffers=False,  # all ranks compute the same ones (RoPE frequencies)
            gradient_as_bucket_view=True,
            find_unused_parameters=self._settings.find_unused_parameters,
        )
        assert dist.get_world_size() == self.layout.world_size > 1

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return group.gather(values, device=self.device)

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        module = self._module
        assert isinstance(module, DistributedDataParallel)
        total = step.no_loss(micro_batches, self.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else module.no_sync():
                total += step.backward(
                    module,
                    batch,
                    scale=self.layout.dp_size / divisor,
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
        return step.sums(group.added_up(mine, device=self.device))

    def save_state(self, folder: Path) -> list[Path]:
        """Rank 0 writes; all ranks hold the same state."""
        assert self._optimizer is not None
        if self.layout.rank != 0:
            return []
        return state.save_state(self._objective, self._optimizer, folder, scaling=self._scaling)

    def load_state(self, folder: Path) -> None:
        assert self._optimizer is not None
        state.load_state(self._objective, self._optimizer, folder, scaling=self._scaling)

    def full_weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        yield from state.named_weights(self._objective, trained_only=trained_only)

    def close(self) -> None:
        self._module = None  # it would keep the group alive
        group.leave()
