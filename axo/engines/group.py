"""The process group that several workers share, and the small collectives that every engine of several ranks has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from axo.engines.base import Meet
from axo.types import Layout

GLOO_REST_SECONDS = 0.2


def join(device_type: str, *, timeout: timedelta, meet: Meet | None) -> tuple[torch.device, Layout]:
    """Meet the other ranks as the environment says (torchrun's variables), then make the default process group.

    Gives this rank's device and its place, every rank being a data rank."""
    device = torch.device("cpu")
    if device_type == "cuda":
        device = torch.device("cuda", dist.get_node_local_rank(fallback_rank=0))
        torch.cuda.set_device(device)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    if meet is not None:
        store = meet(store, rank, world_size)
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"  # offloaded gradients lie in CPU memory
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    assert dist.get_world_size() == world_size
    return device, Layout(rank=rank, world_size=world_size, dp_rank=rank, dp_size=world_size)


def gather(values: Sequence[float], *, device: torch.device) -> list[list[float]]:
    """The values of every rank, one row a rank, in float64."""
    mine = torch.tensor(values, dtype=torch.float64, device=device)
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine)
    return [row.tolist() for row in rows]


def added_up(mine: torch.Tensor, *, device: torch.device) -> torch.Tensor:
    """The sum over all ranks, in float64, of tensors of the same shape on the CPU."""
    rows = gather(mine.flatten().tolist(), device=device)
    return torch.tensor(rows, dtype=torch.float64).sum(0).view_as(mine)


def leave() -> None:
    """The destructor of a gloo group joins its thread while it holds the GIL, and that thread needs the GIL to free
    the tensors of the last collective: what keeps the group alive must be gone, and the thread finish first."""
    dist.barrier()
    time.sleep(GLOO_REST_SECONDS)
    dist.destroy_process_group()
