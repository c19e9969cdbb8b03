"""Which samples are held out, and in which packs and steps the others come: pure functions of the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from axo.data.balance import alike_in_steps
from axo.data.draws import BALANCED, EPOCH, PACKED, PARTS, SPLIT, stream
from axo.data.mix import Mixture
from axo.data.pack import Packs, pack, single
from axo.errors import DataError

MOST_BATCHES = 50
"""Steps whose samples group_by_length sorts together (transformers.trainer_pt_utils.get_length_grouped_indices)."""


@dataclass(frozen=True)
class Alike:
    """How the packs of a step are made alike in cost."""

    cost_of: Callable[[Packs], np.ndarray]
    """(packs,) cost of each pack."""
    window: int
    """Steps among which packs are exchanged."""


@dataclass(frozen=True)
class Order:
    """The global order of packs: the same for every number of ranks, which share out the packs of each step."""

    packs_in: Callable[[int], Packs]
    """Epoch -> sample numbers of each of its packs, before they are shuffled."""
    packs_per_step: int
    seed: int
    shuffle: bool
    """Draw the packs' order anew for each epoch."""
    grouped_lengths: np.ndarray | None = None
    """(samples,) lengths by which the packs of a step are made alike; None: they are not."""
    alike: Alike | None = None
    """Makes the packs of a step alike in cost; None: they are as they are drawn."""

    @property
    def packs(self) -> Packs:
        """The packs of the first epoch; of every epoch, unless a part of a data set is drawn anew each time."""
        return self.packs_in(0)

    def steps_in(self, epoch: int) -> int:
        """Nothing is left out: the last step of an epoch has the packs that remain, perhaps fewer than the others."""
        return -(-len(self.packs_in(epoch)) // self.packs_per_step)

    def steps(self, epoch: int, *, start: int = 0) -> Iterator[list[np.ndarray]]:
        """The packs of each optimizer step of this epoch, from step `start` (counted from 0) on."""
        packs = self.packs_in(epoch)
        numbers = np.arange(len(packs))
        if self.shuffle or self.grouped_lengths is not None:
            numbers = stream(self.seed, EPOCH, epoch).permutation(len(packs))
        if self.grouped_lengths is not None:
            numbers = length_grouped(numbers, packs.sums(self.grouped_lengths), batch_size=self.packs_per_step)
        if self.alike is not None:
            draw, cost = stream(self.seed, BALANCED, epoch), self.alike.cost_of(packs)
            numbers = alike_in_steps(
                numbers, cost, packs_per_step=self.packs_per_step, window=self.alike.window, draw=draw
            )
        for begin in range(start * self.packs_per_step, len(packs), self.packs_per_step):
            yield [packs[number] for number in numbers[begin : begin + self.packs_per_step].tolist()]


def make_order(
    lengths: np.ndarray,
    *,
    samples: Mixture | np.ndarray,
    capacity: int | None,
    packs_per_step: int,
    seed: int,
    shuffle: bool,
    sequential: bool = False,
    group_size: int | None = None,
    group_by_length: bool = False,
    alike: Alike | None = None,
) -> Order:
    """The order of `samples` (numbers into `lengths`, or a mixture that draws some for each epoch).

    With a capacity (tokens) samples are packed after one shuffle, once where every epoch has the same samples; without,
    each is a pack of its own. Not shuffled, packs stand in the order of their first samples, in every epoch.
    """

    def make(epoch: int) -> Packs:
        chosen = samples.samples(epoch) if isinstance(samples, Mixture) else samples
        if capacity is None:
            return single(chosen)
        if shuffle:
            chosen = stream(seed, PACKED, epoch).permutation(chosen)
        packs = pack(lengths[chosen], capacity=capacity, sequential=sequential, group_size=group_size)
        return (packs if shuffle else packs.by_first()).of(chosen)

    fixed = not isinstance(samples, Mixture) or samples.is_fixed
    made = lru_cache(maxsize=1)(make)
    by = lengths if group_by_length else None
    return Order((lambda _: made(0)) if fixed else made, packs_per_step, seed, shuffle, by, alike)


def length_grouped(shuffled: np.ndarray, lengths: np.ndarray, *, batch_size: int) -> np.ndarray:
    """The shuffled numbers (into `lengths`), so that batches have like lengths: groups of up to MOST_BATCHES batches,
    each sorted from the longest down, the longest of all first (transformers.trainer_pt_utils
    .get_length_grouped_indices)."""
    size = max(min(len(shuffled) // (batch_size * 4), MOST_BATCHES), 1) * batch_size
    groups = [shuffled[begin : begin + size] for begin in range(0, len(shuffled), size)]
    groups = [group[np.argsort(-lengths[group], kind="stable")] for group in groups]
    result = np.concatenate(groups) if groups else shuffled
    longest = int(np.argmax([lengths[group[0]] for group in groups])) * size if groups else 0
    if groups:
        result[[0, longest]] = result[[longest, 0]]
    return result


def part(n: int, *, parts: int, index: int, seed: int, shuffle: bool) -> np.ndarray:
    """Numbers, rising, of part `index` of `parts` equal parts of `n` samples, which are shuffled before they are cut
    where `shuffle`; the first parts have one more where they do not come out even (datasets.Dataset.shard)."""
    numbers = stream(seed, PARTS, 0).permutation(n) if shuffle else np.arange(n)
    return np.sort(np.array_split(numbers, parts)[index])


def split(n: int, *, val_set_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training and of the evaluation samples among `n`, both rising.

    `val_set_size` below 1 is a share (rounded up, as sklearn's and datasets' train_test_split do), from 1 on a number
    of samples. DataError where nothing would be left to train on.
    """
    held_out = int(val_set_size) if val_set_size >= 1 else int(np.ceil(n * val_set_size))
    if held_out >= n:
        raise DataError(
            f"val_set_size {val_set_size:g} holds out {held_out} samples, but there are only {n}",
            "lower val_set_size, or set it to 0",
        )
    shuffled = stream(seed, SPLIT, 0).permutation(n)
    return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])
