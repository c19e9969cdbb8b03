"""Which rank computes which packs of a step, so that no rank waits long for another.

A pack costs what its row computes: products of matrices grow with its tokens, padding included, attention with the
pairs of tokens that it compares within each sample; padding is a sample of its own (see axo/data/collate.py). Ranks of
DDP wait for each other once a step, those of FSDP and ZeRO-3 in every micro-batch. So the packs of a step are sorted
by cost and cut into as many groups as there are micro-batches: the heaviest of all ranks stand in the first one, and
within each group the rank that has least so far gets the heaviest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from axo.data.pack import Packs
from axo.plan.plan import CostsPlan

MOST_SWAPS = 64
"""Exchanges between ranks that are tried for a step, after it was shared out."""


class Balance(Protocol):
    """Shares the packs of a step out among ranks."""

    def __call__(self, packs: list[np.ndarray], *, world_size: int, rows: int) -> list[np.ndarray]:
        """Of each micro-batch (world_size, rows) numbers of packs, each once; from len(packs) on: an empty one."""
        ...


class Lengths(Protocol):
    """The parts of a store that say what a sample costs."""

    lengths: np.ndarray
    trained: np.ndarray


@dataclass(frozen=True)
class Load:
    """What packs hold, (packs,) int64 each: exact numbers, so that all ranks sort alike on whatever processor."""

    tokens: np.ndarray
    targets: np.ndarray
    pairs: np.ndarray
    """Pairs of tokens that attention compares."""
    windowed: np.ndarray
    """The same in layers with a window."""

    def __getitem__(self, numbers: np.ndarray) -> Load:
        return Load(self.tokens[numbers], self.targets[numbers], self.pairs[numbers], self.windowed[numbers])


def load_of(packs: Packs, store: Lengths, costs: CostsPlan) -> Load:
    """What each of these packs of samples of `store` holds."""
    lengths = store.lengths[packs.samples].astype(np.int64)
    held = Packs(np.arange(len(packs.samples)), packs.bounds)
    pairs = held.sums(num_pairs(lengths, None))
    windowed = pairs if costs.window is None else held.sums(num_pairs(lengths, costs.window))
    return Load(held.sums(lengths), held.sums(store.trained[packs.samples]), pairs, windowed)


def cost_of_packs(packs: Packs, store: Lengths, costs: CostsPlan, *, length: int | None) -> np.ndarray:
    """(packs,) float64 FLOPs of each pack in a row of `length` tokens, or in one without padding."""
    load = load_of(packs, store, costs)
    return cost_of_rows(load, costs, length=length or load.tokens)


def balance_of(
    store: Lengths, costs: CostsPlan | None, *, length: int | None, multiple_of: int | None
) -> Balance | None:
    """How the packs of a step are shared out among ranks; None where no costs are given: in turn."""
    if costs is None:
        return None

    def share(packs: list[np.ndarray], *, world_size: int, rows: int) -> list[np.ndarray]:
        load = load_of(packs_of(packs), store, costs)
        return share_out(load, costs, world_size=world_size, rows=rows, length=length, multiple_of=multiple_of).packs

    return share


def num_pairs(lengths: np.ndarray, window: int | None) -> np.ndarray:
    """Pairs of a token with itself and those before it, at most `window` in all, in samples of these lengths."""
    near = lengths if window is None else np.minimum(lengths, window)
    return near * (near + 1) // 2 + (lengths - near) * near


def cost_of_rows(load: Load, costs: CostsPlan, *, length: int | np.ndarray) -> np.ndarray:
    """(packs,) float64 FLOPs of each pack in a row of `length` tokens.

    Sums of products of exact numbers, one at a time: equal on all ranks."""
    padding = np.asarray(length - load.tokens, dtype=np.int64)
    cost = costs.token * (load.tokens + padding).astype(np.float64)
    cost += costs.target * load.targets.astype(np.float64)
    cost += costs.pair * (load.pairs + num_pairs(padding, None)).astype(np.float64)
    cost += costs.windowed_pair * (load.windowed + num_pairs(padding, costs.window)).astype(np.float64)
    return cost


@dataclass(frozen=True)
class Shares:
    """The micro-batches of all ranks in a step."""

    packs: list[np.ndarray]
    """Of each micro-batch (world_size, rows) int64 numbers of packs; from the number of packs on: an empty one."""
    costs: np.ndarray
    """(micro-batches, world_size) float64 FLOPs."""


def share_out(
    load: Load, costs: CostsPlan, *, world_size: int, rows: int, length: int | None, multiple_of: int | None
) -> Shares:
    """Equally many micro-batches of at most `rows` rows for each rank, the same number of rows on all of them. A row
    has `length` tokens, or those of the longest in its micro-batch, rounded up to `multiple_of`."""
    each = -(-len(load.tokens) // world_size)
    filled = _with_empty(load, count=each * world_size)
    alone = cost_of_rows(filled, costs, length=length or filled.tokens)
    order = np.argsort(-alone, kind="stable")
    sofar = np.zeros(world_size)
    packs: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for begin in range(0, each, rows):
        group = order[begin * world_size : min(begin + rows, each) * world_size]
        batches = group.reshape(world_size, -1) if length is None else _dealt(group, alone, world_size)
        cost = _cost_of_batches(filled[batches.reshape(-1)], costs, batches.shape, length, multiple_of)
        rank_of = np.empty(world_size, dtype=np.int64)
        rank_of[np.argsort(sofar, kind="stable")] = np.argsort(-cost, kind="stable")
        packs.append(batches[rank_of])
        found.append(cost[rank_of])
        sofar = sofar + found[-1]
    return _exchanged(packs, np.array(found))


def _with_empty(load: Load, *, count: int) -> Load:
    missing = count - len(load.tokens)
    zeros = np.zeros(missing, dtype=np.int64)
    parts = (load.tokens, load.targets, load.pairs, load.windowed)
    return load if not missing else Load(*(np.concatenate([part, zeros]) for part in parts))


def _dealt(group: np.ndarray, alone: np.ndarray, world_size: int) -> np.ndarray:
    """(world_size, rows): one row each at a time from the heaviest down, the lightest micro-batch first. For rows whose
    cost does not depend on what stands beside them; others stand beside their like, which pads least."""
    rounds = group.reshape(-1, world_size)
    batches, sofar = np.empty_like(rounds.T), np.zeros(world_size)
    for number, dealt in enumerate(rounds):
        to = np.argsort(sofar, kind="stable")
        batches[to, number] = dealt
        sofar[to] += alone[dealt]
    return batches


def _cost_of_batches(
    load: Load, costs: CostsPlan, shape: tuple[int, ...], length: int | None, multiple_of: int | None
) -> np.ndarray:
    """(world_size,) FLOPs of micro-batches whose rows stand one after the other in `load`."""
    if length is None:
        longest = load.tokens.reshape(shape).max(1)
        multiple = multiple_of or 1
        length_of = np.repeat(np.maximum(-(-longest // multiple), 1) * multiple, shape[1])
    else:
        length_of = np.full(shape[0] * shape[1], length)
    rows = cost_of_rows(load, costs, length=length_of).reshape(shape)
    total = np.zeros(shape[0])
    for column in rows.T:
        total = total + column
    return total


def _exchanged(packs: list[np.ndarray], costs: np.ndarray) -> Shares:
    """The heaviest rank gives a micro-batch for another rank's of the same place, as long as that makes the heavier of
    the two lighter: what the ranks wait for in each place stays as it is."""
    if len(packs) == 1:
        return Shares(packs, costs)
    totals = np.zeros(costs.shape[1])
    for row in costs:
        totals = totals + row
    for _ in range(MOST_SWAPS):
        heaviest = int(np.argmax(totals))
        given = costs[:, heaviest, None] - costs
        after = np.maximum(totals[heaviest] - given, totals + given)
        after[:, heaviest] = np.inf
        place, other = (int(at) for at in np.unravel_index(np.argmin(after), after.shape))
        if after[place, other] >= totals[heaviest]:
            break
        moved = given[place, other]
        pair = [heaviest, other]
        packs[place][pair] = packs[place][pair[::-1]]
        costs[place, pair] = costs[place, pair[::-1]]
        totals[heaviest] -= moved
        totals[other] += moved
    return Shares(packs, costs)


def alike_in_steps(
    shuffled: np.ndarray, cost: np.ndarray, *, packs_per_step: int, window: int, draw: np.random.RandomState
) -> np.ndarray:
    """The shuffled numbers of packs, exchanged within windows of at least `window` steps (fewer where there are no
    more) so that those of one step cost alike, and the steps of a window drawn anew. `cost` is that of each pack by
    its number. What is left over for a last, smaller step stays last."""
    steps = -(-len(shuffled) // packs_per_step)
    bounds = [part[0] for part in np.array_split(np.arange(steps), max(steps // window, 1))] if steps else []
    result: list[np.ndarray] = [shuffled[:0]]
    for begin, end in zip(bounds, [*bounds[1:], steps], strict=True):
        own = shuffled[begin * packs_per_step : end * packs_per_step]
        own = own[np.argsort(-cost[own], kind="stable")]
        whole = len(own) // packs_per_step
        drawn = own[: whole * packs_per_step].reshape(whole, packs_per_step)[draw.permutation(whole)]
        result += [drawn.reshape(-1), own[whole * packs_per_step :]]
    return np.concatenate(result)


def packs_of(packs: Sequence[np.ndarray]) -> Packs:
    """The same packs in two arrays."""
    bounds = np.concatenate([[0], np.cumsum([len(pack) for pack in packs], dtype=np.int64)])
    return Packs(np.concatenate([np.empty(0, dtype=np.int64), *packs]), bounds)
