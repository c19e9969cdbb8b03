"""Which samples share a row: best-fit decreasing over counts of lengths, so that time hardly grows with samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Packs(Sequence[np.ndarray]):
    """Numbers of samples, pack after pack, in two arrays, so that millions of packs take no more than their numbers."""

    samples: np.ndarray
    """(samples,) int64."""
    bounds: np.ndarray
    """(packs + 1,) int64: pack p holds samples[bounds[p] : bounds[p + 1]]."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, number: slice) -> list[np.ndarray]: ...
    def __getitem__(self, number: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return self.samples[self.bounds[number] : self.bounds[number + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        bounds = self.bounds.tolist()
        return (self.samples[begin:end] for begin, end in pairwise(bounds))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(packs,) int64: the sum over each pack's samples of values (samples,)."""
        sums = np.concatenate([[0], np.cumsum(values[self.samples], dtype=np.int64)])
        return np.diff(sums[self.bounds])

    def of(self, numbers: np.ndarray) -> Packs:
        """The same packs of other samples: of numbers[n] where n stands now."""
        return Packs(numbers[self.samples], self.bounds)

    def by_first(self) -> Packs:
        """The packs in the order of their first samples."""
        order = np.argsort(self.samples[self.bounds[:-1]], kind="stable")
        sizes = np.diff(self.bounds)[order]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        at = np.arange(len(self.samples)) + np.repeat(self.bounds[:-1][order] - bounds[:-1], sizes)
        return Packs(self.samples[at], bounds)


def single(samples: np.ndarray) -> Packs:
    """A pack for each sample."""
    return Packs(np.asarray(samples, dtype=np.int64), np.arange(len(samples) + 1))


def pack(lengths: np.ndarray, *, capacity: int, sequential: bool, group_size: int | None = None) -> Packs:
    """Positions into `lengths` for each pack; each position once, each pack's lengths sum to at most `capacity`.

    `group_size` positions in a row are packed together at a time; None: all. `sequential` fills one pack after the
    other in the given order; otherwise each sample, longest first, goes to the fullest pack that has room (best-fit
    decreasing, Johnson 1973), and positions within a pack rise.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    assert lengths.size == 0 or (lengths.min() > 0 and lengths.max() <= capacity)
    samples: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    sizes: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
    step = group_size or max(len(lengths), 1)
    for start in range(0, len(lengths), step):
        group = lengths[start : start + step]
        pack_of = _next_fit(group, capacity) if sequential else _best_fit_decreasing(group, capacity)
        samples.append(_stable_order(pack_of) + start)
        sizes.append(np.bincount(pack_of))
    return Packs(np.concatenate(samples), np.cumsum(np.concatenate(sizes)))


def _next_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The pack of each sample when a pack is closed as soon as the next sample does not fit."""
    ends = np.cumsum(lengths)
    firsts, filled = [], 0
    while not firsts or firsts[-1] < len(lengths):
        firsts.append(int(np.searchsorted(ends, filled + capacity, side="right")))
        filled = int(ends[firsts[-1] - 1])
    opens = np.zeros(len(lengths) + 1, dtype=np.int64)
    opens[firsts] = 1
    return np.cumsum(opens[:-1])


def _best_fit_decreasing(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The pack of each sample. Equal lengths are placed together, and so are packs with equal room."""
    order = _stable_order(capacity - lengths)
    counts = np.bincount(lengths)
    values = np.flatnonzero(counts)[::-1]
    pack_of = np.empty(len(lengths), dtype=np.int64)
    rooms = _Rooms()
    begin = num_packs = 0
    for length, count in zip(values.tolist(), counts[values].tolist(), strict=True):
        samples = order[begin : begin + count]
        begin += count
        while len(samples):
            room = rooms.least(length)
            if room is None:
                room = capacity
                opened = -(-len(samples) // (capacity // length))
                packs = np.arange(num_packs, num_packs + opened)
                num_packs += opened
            else:
                packs = rooms.take(room, -(-len(samples) // (room // length)))
            # The fullest pack that fits stays the fullest until the length no longer fits, so it is filled at once.
            each = room // length
            placed = min(len(samples), each * len(packs))
            pack_of[samples[:placed]] = np.repeat(packs, each)[:placed]
            samples = samples[placed:]
            whole, rest = divmod(placed, each)
            rooms.add(room - each * length, packs[:whole])
            rooms.add(room - rest * length, packs[whole:])
    return pack_of


class _Rooms:
    """Packs by the room they have left."""

    def __init__(self) -> None:
        self._packs: defaultdict[int, list[np.ndarray]] = defaultdict(list)
        self._present = 0
        """Bit r is set where some pack has room r."""

    def least(self, length: int) -> int | None:
        """The least room of at least `length`."""
        at_least = self._present >> length
        return None if at_least == 0 else length + (at_least & -at_least).bit_length() - 1

    def take(self, room: int, count: int) -> np.ndarray:
        """Up to `count` packs with this room, no longer counted as having it."""
        packs = self._packs.pop(room)
        joined = packs[0] if len(packs) == 1 else np.concatenate(packs)
        self._present &= ~(1 << room)
        self.add(room, joined[count:])
        return joined[:count]

    def add(self, room: int, packs: np.ndarray) -> None:
        """Packs that now have this room."""
        if room > 0 and len(packs):
            self._packs[room].append(packs)
            self._present |= 1 << room


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """Positions that sort keys from 0 to 2**32 - 1, equal ones in their order; numpy sorts 16 bits in linear time."""
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    if len(keys) == 0 or keys.max() < 1 << 16:
        return order
    return order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]
