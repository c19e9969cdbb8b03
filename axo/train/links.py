"""Once the process group stands: how long an all-reduce takes, and whether the way between two ranks is slow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
import torch.distributed as dist

from axo.engines.base import Engine
from axo.log import LOG
from axo.train.agreement import Card

ALL_REDUCE_MIB = 4
RING_MIB = 1
TIMES = 3
SLOW_FACTOR = 10
SLOW_MILLISECONDS = 20
"""A way counts as slow from both on: below this a median is noise of the machine."""


def check_links(engine: Engine, cards: Sequence[Card]) -> None:
    """Log the time of an all-reduce in one line; warn of slow ways by host and rank. All ranks call it; `cards` are
    those of the pre-flight, on rank 0."""
    if engine.layout.world_size == 1:
        return
    reduced = _time_all_reduce(engine.device)
    ways = [row[0] for row in engine.gather([_time_from_former(engine.device)])]
    if engine.layout.rank != 0:
        return
    names = [card.name for card in cards] or [f"rank {rank}" for rank in range(len(ways))]
    hosts = len({card.node for card in cards}) or 1
    LOG.info(
        "%d ranks on %d host%s agree; all-reduce of %d MiB in %.1f ms",
        len(ways), hosts, "s" * (hosts > 1), ALL_REDUCE_MIB, reduced,
    )  # fmt: skip
    for line in slow_ways(ways, names):
        LOG.warning("%s", line)


def slow_ways(milliseconds: Sequence[float], names: Sequence[str]) -> list[str]:
    """`milliseconds[r]` is what a message from the rank before r (the last one, for 0) took to r."""
    usual = median(milliseconds)
    return [
        f"{names[rank - 1]} to {names[rank]}: {RING_MIB} MiB in {took:.1f} ms, "
        f"{took / usual:.0f} times the median of {usual:.1f} ms"
        for rank, took in enumerate(milliseconds)
        if took > SLOW_FACTOR * usual and took > SLOW_MILLISECONDS
    ]


def _time_all_reduce(device: torch.device) -> float:
    """Milliseconds; the median, after one that opens connections."""
    values = torch.zeros(ALL_REDUCE_MIB * 2**18, device=device)
    took: list[float] = []
    for _ in range(1 + TIMES):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(values)
        _finish(device)
        took.append(1000 * (time.perf_counter() - started))
    return median(took[1:])


def _time_from_former(device: torch.device) -> float:
    """Milliseconds that a message takes around the ring, from the rank before to this one."""
    rank, size = dist.get_rank(), dist.get_world_size()
    sent, received = torch.zeros(RING_MIB * 2**18, device=device), torch.empty(RING_MIB * 2**18, device=device)
    took: list[float] = []
    for _ in range(1 + TIMES):
        dist.barrier()
        started = time.perf_counter()
        work = [
            dist.P2POp(dist.isend, sent, (rank + 1) % size),
            dist.P2POp(dist.irecv, received, (rank - 1) % size),
        ]
        for one in reversed(dist.batch_isend_irecv(work)):
            one.wait()
        _finish(device)
        took.append(1000 * (time.perf_counter() - started))
    return min(took[1:])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
