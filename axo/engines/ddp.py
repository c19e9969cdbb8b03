"""Every rank holds the whole model; gradients are averaged once a step (torch DistributedDataParallel)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from axo.engines import state, step
from axo.engines.base import MakeOptimizer
from axo.engines.scaling import LossScaling
from axo.types import Batch, Layout, Sums, Update

GLOO_REST_SECONDS = 0.2


class DDP:
    """DistributedDataParallel averages gradients over ranks, so the loss is scaled by world_size / divisor."""

    def __init__(
        self, *, device: str, autocast_dtype: torch.dtype | None, timeout_seconds: int, loss_scaling: bool = False
    ) -> None:
        self._autocast_dtype = autocast_dtype
        self._loss_scaling = loss_scaling
        self._timeout = timedelta(seconds=timeout_seconds)
        self._device_type = device

    @contextmanager
    def construct(self) -> Iterator[None]:
        if self._device_type == "cuda":
            local_rank = dist.get_node_local_rank(fallback_rank=0)
            torch.cuda.set_device(local_rank)
            self.device = torch.device("cuda", local_rank)
        else:
            self.device = torch.device("cpu")
        dist.init_process_group("nccl" if self._device_type == "cuda" else "gloo", timeout=self._timeout)
        rank, world_size = dist.get_rank(), dist.get_world_size()
        self.layout = Layout(rank=rank, world_size=world_size, dp_rank=rank, dp_size=world_size)
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
        )
        assert dist.get_world_size() == self.layout.world_size > 1

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        rows = [torch.empty_like(mine) for _ in range(self.layout.dp_size)]
        dist.all_gather(rows, mine)
        return [row.tolist() for row in rows]

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
        rows = self.gather(mine.flatten().tolist())
        return step.sums(torch.tensor(rows, dtype=torch.float64).sum(0).view_as(mine))

    def save_state(self, folder: Path) -> None:
        """Rank 0 writes; all ranks hold the same state."""
        assert self._optimizer is not None
        if self.layout.rank == 0:
            state.save_state(self._objective, self._optimizer, folder, scaling=self._scaling)

    def load_state(self, folder: Path) -> None:
        assert self._optimizer is not None
        state.load_state(self._objective, self._optimizer, folder, scaling=self._scaling)

    def full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self._objective.state_dict().items()

    def close(self) -> None:
        """The destructor of a gloo group joins its thread while it holds the GIL, and that thread needs the GIL to free
        the tensors of the last collective: drop what keeps the group alive and let the thread finish first."""
        self._module = None
        dist.barrier()
        time.sleep(GLOO_REST_SECONDS)
        dist.destroy_process_group()
