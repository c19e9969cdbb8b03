"""Which collectives one optimizer step takes, and how many bytes: closed formulas of the shapes of the weights.

Sizes are those of the whole tensor: what an all-reduce or a reduce-scatter takes in, what an all-gather gives. Over a
ring of n ranks each rank sends (n - 1) / n of that for an all-gather or a reduce-scatter, and twice as much for an
all-reduce, which is one of each (Patarasuk & Yuan 2009, Bandwidth Optimal All-reduce Algorithms; NCCL counts its bus
bandwidth so too: nccl-tests, doc/PERFORMANCE.md). No other way of doing it sends less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

Kind = Literal["all-reduce", "all-gather", "reduce-scatter"]

VALUE_BYTES = 8
"""The loop gathers float64."""
STEP_VALUES, LOSS_VALUES = 4, 1
"""What each rank says before the backward passes (axo/train/loop.py: divisor, stop, most and all trained tokens) and
behind them; of several data sets one divisor more and one loss for each."""


@dataclass(frozen=True)
class Weight:
    """A tensor of the model."""

    shape: tuple[int, ...]
    itemsize: int
    """Bytes of a number as it is gathered."""
    gradient_itemsize: int = 0
    """Bytes of a number of the gradient as it is reduced; 0: it is not trained."""


@dataclass(frozen=True)
class Collective:
    """Asked for `times` times in a step."""

    kind: Kind
    ranks: int
    num_bytes: int
    times: int = 1

    @property
    def sent_bytes(self) -> float:
        """What each rank sends over a ring, all times together."""
        ways = 2 if self.kind == "all-reduce" else 1
        return self.times * ways * self.num_bytes * (self.ranks - 1) / self.ranks


def sent_bytes(collectives: Iterable[Collective]) -> float:
    """What each rank sends in a step."""
    return sum(one.sent_bytes for one in collectives)


def loop_step(*, ranks: int, num_sets: int = 1) -> list[Collective]:
    """axo's own gathers, with every engine: counts before the backward passes and losses behind them."""
    counts = STEP_VALUES + (num_sets if num_sets > 1 else 0)
    losses = max(num_sets, LOSS_VALUES)
    return [Collective("all-gather", ranks, VALUE_BYTES * values * ranks) for values in (counts, losses)]


def ddp_step(weights: Iterable[Weight], *, ranks: int) -> list[Collective]:
    """Every gradient once, whatever the accumulation; torch cuts it into buckets of 25 MiB (the first of 1 MiB).

    Every rank then has all gradients and measures their norm by itself. The second step of a run also broadcasts the
    order in which gradients came."""
    return [Collective("all-reduce", ranks, sum(prod(one.shape) * one.gradient_itemsize for one in weights))]


def fsdp_step(
    units: Sequence[Sequence[Weight]],
    root: Sequence[Weight],
    *,
    shard: int,
    replicate: int = 1,
    reshard_after_forward: bool = True,
    reduce_each: bool = True,
    micro_batches: int = 1,
    norm_itemsize: int = 4,
) -> list[Collective]:
    """Of FSDP2: `units` are the weights of each layer, `root` those of none, which stay gathered from a forward pass to
    the end of its backward pass.

    Each micro-batch gathers a unit for its forward pass and, where it was given back, for its backward pass. Gradients
    are reduced behind each micro-batch, or with `reduce_each` false once behind the last one; with `replicate` groups
    the parts are then summed up between these once (HSDP). Each weight is split along its first dimension into `shard`
    parts of equally many rows, the last ones filled up. The norm of all gradients takes one number for each trained
    weight."""
    found: list[Collective] = []
    for unit, passes in (*((unit, 2 if reshard_after_forward else 1) for unit in units), (root, 1)):
        gathered = sum(_padded(one, shard) * one.itemsize for one in unit)
        reduced = sum(_padded(one, shard) * one.gradient_itemsize for one in unit)
        found.append(Collective("all-gather", shard, gathered, micro_batches * passes))
        found.append(Collective("reduce-scatter", shard, reduced, micro_batches if reduce_each else 1))
        if replicate > 1:
            found.append(Collective("all-reduce", replicate, reduced // shard))
    trained = sum(one.gradient_itemsize > 0 for unit in (*units, root) for one in unit)
    found.append(Collective("all-reduce", shard, trained * norm_itemsize))
    return [one for one in found if one.num_bytes and one.ranks > 1]


def zero_step(
    weights: Sequence[Weight], *, stage: Literal[0, 1, 2, 3], ranks: int, micro_batches: int = 1
) -> list[Collective]:
    """Of DeepSpeed's ZeRO, as published (Rajbhandari et al. 2020, ZeRO, section 7); DeepSpeed's buckets, padding and
    small collectives are left out, so this is a lower bound and not what is counted.

    Stages 1 and 2 reduce gradients and gather the updated weights once a step. Stage 2 reduces at every micro-batch,
    since it keeps a part of the gradients alone. Stage 3 gathers weights for each forward and each backward pass
    instead."""
    whole = sum(prod(one.shape) * one.itemsize for one in weights)
    updated = sum(prod(one.shape) * one.itemsize for one in weights if one.gradient_itemsize)
    gradients = sum(prod(one.shape) * one.gradient_itemsize for one in weights)
    if stage == 0:
        return [Collective("all-reduce", ranks, gradients)]
    reduced = Collective("reduce-scatter", ranks, gradients, micro_batches if stage > 1 else 1)
    gathered = Collective("all-gather", ranks, *((whole, 2 * micro_batches) if stage == 3 else (updated, 1)))
    return [reduced, gathered]


def _padded(weight: Weight, shard: int) -> int:
    """Numbers of a weight whose rows are filled up to a multiple of `shard`."""
    rows, *rest = weight.shape or (1,)
    return ceil(rows / shard) * shard * prod(rest)
