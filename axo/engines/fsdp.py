"""Parameters, gradients and optimizer state are split among ranks (FSDP2: torch.distributed.fsdp.fully_shard)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from axo.engines import group, sharded, sharded_state, state, step
from axo.engines.base import MakeOptimizer, Meet
from axo.engines.meta import READER, OneReader
from axo.engines.scaling import LossScaling
from axo.engines.units import units
from axo.plan.plan import FSDPPlan
from axo.types import Batch, Layout, Sums, Update


class FSDP:
    """Gradients are averaged over ranks as they are reduced, so the loss is scaled by world_size / divisor."""

    layout: Layout
    device: torch.device
    holds_whole = False

    def __init__(
        self, *, device: str, autocast_dtype: torch.dtype | None, timeout_seconds: int, settings: FSDPPlan,
        loss_scaling: bool = False,
    ) -> None:  # fmt: skip
        self._autocast_dtype = autocast_dtype
        self._loss_scaling = loss_scaling
        self._timeout = timedelta(seconds=timeout_seconds)
        self._device_type = device
        self._settings = settings
        self._stepped = False

    @property
    def reads_weights(self) -> bool:
        return not self._settings.one_reader or self.layout.rank == READER

    @contextmanager
    def construct(self, meet: Meet | None = None) -> Iterator[None]:
        self.device, self.layout = group.join(self._device_type, timeout=self._timeout, meet=meet)
        yield

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer | None) -> None:
        self._objective = objective
        self._whole = sharded.kept_whole(objective)
        reader = OneReader(objective, device=self.device) if self._settings.one_reader else None
        if reader is not None:
            reader.bring_buffers(objective)
        else:
            sharded.check_equal(objective, gather=self.gather)
        _move_buffers(objective, self.device)
        mesh = self._mesh()
        for unit in (*units(objective, self._settings), objective):
            if reader is not None:
                reader.bring(unit)
            self._shard(unit, mesh)
        sharded.check_sharded(objective, settings=self._settings, whole=self._whole)
        self._optimizer = make_optimizer(objective) if make_optimizer else None
        self._parameters = list(state.trained_parameters(objective).values())
        self._scaling = LossScaling(self.device) if self._loss_scaling else None

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return group.gather(values, device=self.device)

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        """Between the groups of HSDP gradients are added up behind the last micro-batch alone."""
        root = self._root
        total = step.no_loss(micro_batches, self.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            root.set_requires_gradient_sync(last or self._settings.reduce_each)
            root.set_requires_all_reduce(last)
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
        done = step.update(self._optimizer, self._parameters, lr=lr, max_grad_norm=max_grad_norm, scaling=self._scaling)
        if not self._stepped and not done.skipped:
            sharded.check_state(self._optimizer, self._parameters)
            self._stepped = True
        return done

    def evaluate(self, batches: Iterable[Batch]) -> Sums:
        mine = step.score(self._objective, batches, device=self.device, autocast_dtype=self._autocast_dtype)
        reshard(self._objective)
        return step.sums(group.added_up(mine, device=self.device))

    def save_state(self, folder: Path) -> list[Path]:
        """Each rank writes its part."""
        assert self._optimizer is not None
        return sharded_state.save_state(
            self._objective, self._optimizer, folder, layout=self.layout, scaling=self._scaling
        )

    def load_state(self, folder: Path) -> None:
        assert self._optimizer is not None
        sharded_state.load_state(self._objective, self._optimizer, folder, layout=self.layout, scaling=self._scaling)

    def full_weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in state.named_weights(self._objective, trained_only=trained_only):
            yield name, value.full_tensor() if isinstance(value, DTensor) else value

    def close(self) -> None:
        group.leave()

    @property
    def _root(self) -> FSDPModule:
        assert isinstance(self._objective, FSDPModule)
        return self._objective

    def _mesh(self) -> DeviceMesh:
        sizes, names = (self._settings.shard,), ("shard",)
        if self._settings.replicate > 1:
            sizes, names = (self._settings.replicate, *sizes), ("replicate", *names)
        return init_device_mesh(self.device.type, sizes, mesh_dim_names=names)

    def _shard(self, unit: nn.Module, mesh: DeviceMesh) -> None:
        """The root, which holds the head, stays gathered from its forward to the end of its backward pass: the loss
        calls the head several times."""
        settings, root = self._settings, unit is self._objective
        offload = CPUOffloadPolicy(pin_memory=settings.pin_memory) if settings.offload else OffloadPolicy()
        fully_shard(
            unit,
            mesh=mesh,
            reshard_after_forward=settings.reshard_after_forward and not root,
            mp_policy=MixedPrecisionPolicy(
                param_dtype=_dtype(settings.param_dtype), reduce_dtype=_dtype(settings.reduce_dtype)
            ),
            offload_policy=offload,
            ignored_params=self._whole or None,
        )


@contextmanager
def computing_by(objective: nn.Module, *methods: str) -> Iterator[None]:
    """Within, these methods of a sharded objective gather parameters as its forward does; behind, all are as before."""
    for name in methods:
        register_fsdp_forward_method(objective, name)
    try:
        yield
    finally:
        for name in methods:
            delattr(objective, name)
        reshard(objective)


def reshard(module: nn.Module) -> None:
    """Give back what a forward pass without a backward pass leaves gathered."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _move_buffers(objective: nn.Module, device: torch.device) -> None:
    for owner in objective.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = buffer.to(device)


def _dtype(name: str | None) -> torch.dtype | None:
    return getattr(torch, name) if name else None
