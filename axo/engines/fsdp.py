"""Parameters, gradients and optimizer state are split among ranks (FSDP2: torch.distributed.fsdp.fully_shard)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from axo.engines import group, state, step
from axo.engines.base import MakeOptimizer, Meet
from axo.engines.scaling import LossScaling
from axo.plan.plan import FSDPPlan
from axo.types import Batch, Layout, Sums, Update


class FSDP:
    """Gradients are averaged over ranks as they are reduced, so the loss is scaled by world_size / divisor."""

    layout: Layout
    device: torch.device
    holds_whole = False
    reads_weights = True

    def __init__(
        self, *, device: str, autocast_dtype: torch.dtype | None, timeout_seconds: int, settings: FSDPPlan,
        loss_scaling: bool = False,
    ) -> None:  # fmt: skip
        self._autocast_dtype = autocast_dtype
        self._loss_scaling = loss_scaling
        self._timeout = timedelta(seconds=timeout_seconds)
        self._device_type = device
        self._settings = settings

    @contextmanager
    def construct(self, meet: Meet | None = None) -> Iterator[None]:
        self.device, self.layout = group.join(self._device_type, timeout=self._timeout, meet=meet)
        yield

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer | None) -> None:
        objective.to(self.device)
        sizes, names = (self._settings.shard,), ("shard",)
        if self._settings.replicate > 1:
            sizes, names = (self._settings.replicate, *sizes), ("replicate", *names)
        mesh = init_device_mesh(self.device.type, sizes, mesh_dim_names=names)
        for layer in _layers(objective):
            fully_shard(layer, mesh=mesh, reshard_after_forward=self._settings.reshard_after_forward)
        self._objective = objective
        self._root: FSDPModule = fully_shard(objective, mesh=mesh, reshard_after_forward=False)
        self._optimizer = make_optimizer(self._objective) if make_optimizer else None
        self._parameters = list(state.trained_parameters(self._objective).values())
        self._scaling = LossScaling(self.device) if self._loss_scaling else None
        assert all(isinstance(parameter, DTensor) for parameter in self._objective.parameters())

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return group.gather(values, device=self.device)

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        total = step.no_loss(micro_batches, self.device)
        for index, batch in enumerate(micro_batches):
            self._root.set_requires_gradient_sync(index == len(micro_batches) - 1)
            total += step.backward(
                self._objective,
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
        for module in self._objective.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        rows = self.gather(mine.flatten().tolist())
        return step.sums(torch.tensor(rows, dtype=torch.float64).sum(0).view_as(mine))

    def save_state(self, folder: Path) -> None:
        raise NotImplementedError

    def load_state(self, folder: Path) -> None:
        raise NotImplementedError

    def full_weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in state.named_weights(self._objective, trained_only=trained_only):
            yield name, value.full_tensor() if isinstance(value, DTensor) else value

    def close(self) -> None:
        group.leave()


def _layers(objective: nn.Module) -> Iterator[nn.Module]:
    """The model's decoder layers, as its code says not to split them."""
    names = {name for module in objective.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    yield from (module for module in objective.modules() if type(module).__name__ in names)
