"""Which samples are held out, and in which packs and steps the others come: pure functions of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from axo.data.pack import pack
from axo.errors import DataError

_SPLIT, _PACKS, _EPOCH = 0, 1, 2
"""What a random stream is for, so that no two share one."""


@dataclass(frozen=True)
class Order:
    """The global order of packs: the same for every number of ranks, which take packs r, r + dp, ... of each step."""

    packs: tuple[np.ndarray, ...]
    """Sample numbers of each pack; every sample of an epoch stands in exactly one."""
    packs_per_step: int
    seed: int
    shuffle: bool
    """Draw the packs' order anew for each epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Nothing is left out: the last step of an epoch has the packs that remain, perhaps fewer than the others."""
        return -(-len(self.packs) // self.packs_per_step)

    def steps(self, epoch: int, *, start: int = 0) -> Iterator[list[np.ndarray]]:
        """The packs of each optimizer step of this epoch, from step `start` (counted from 0) on."""
        numbers = np.arange(len(self.packs))
        if self.shuffle:
            numbers = _random(self.seed, _EPOCH, epoch).permutation(len(self.packs))
        for begin in range(start * self.packs_per_step, len(self.packs), self.packs_per_step):
            yield [self.packs[number] for number in numbers[begin : begin + self.packs_per_step]]


def make_order(
    lengths: np.ndarray,
    *,
    indices: np.ndarray,
    capacity: int | None,
    packs_per_step: int,
    seed: int,
    shuffle: bool,
    sequential: bool,
    group_size: int,
) -> Order:
    """The order of the samples `indices` (numbers into `lengths`).

    With a capacity (tokens) samples are packed once, after one shuffle; without, each is a pack of its own. Not
    shuffled, packs stand in the order of their first samples, in every epoch.
    """
    if capacity is None:
        return Order(tuple(indices[:, None]), packs_per_step, seed, shuffle)
    if shuffle:
        indices = _random(seed, _PACKS, 0).permutation(indices)
    packs = pack(lengths[indices], capacity=capacity, sequential=sequential, group_size=group_size)
    if not shuffle:
        packs.sort(key=lambda positions: int(positions[0]))  # positions rise within a pack
    return Order(tuple(indices[positions] for positions in packs), packs_per_step, seed, shuffle)


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
    shuffled = _random(seed, _SPLIT, 0).permutation(n)
    return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])


def _random(seed: int, purpose: int, epoch: int) -> np.random.RandomState:
    """A stream whose draws numpy has frozen (NEP 19), so that an update of numpy changes no run."""
    return np.random.RandomState([seed, purpose, epoch])
