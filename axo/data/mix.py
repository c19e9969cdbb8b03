"""How often an epoch sees the samples of each data set, and which of them: pure functions of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from axo.data.draws import DRAWN, SHUFFLED, stream
from axo.errors import DataError

MOST_SAMPLES = 2**31 - 1
"""Of an epoch: eight bytes each are held in memory."""


@dataclass(frozen=True)
class Share:
    """What a recipe asks for one data set; at most one of the two."""

    weight: float | None = None
    """Share of samples, relative to the weights of the other data sets that have one."""
    repeat: float | None = None
    """How often each sample comes in an epoch."""


def counts(sizes: Sequence[int], shares: Sequence[Share]) -> list[int]:
    """Samples of each data set in an epoch, of `sizes` samples that there are.

    Without a weight: repeat x size, rounded to the nearest number (half up). The data sets with weights together have
    as many samples in an epoch as they hold, shared out by weight; what rounding down leaves goes to the largest
    remainders. DataError where a data set would give no sample at all.
    """
    result = [
        _whole((1.0 if share.repeat is None else share.repeat) * size)
        for size, share in zip(sizes, shares, strict=True)
    ]
    weighted = [at for at, share in enumerate(shares) if share.weight is not None and sizes[at]]
    weights = [shares[at].weight or 0.0 for at in weighted]
    for at, count in zip(weighted, _shared_out([sizes[at] for at in weighted], weights), strict=True):
        result[at] = count
    for at, (size, count) in enumerate(zip(sizes, result, strict=True)):
        if size and not count:
            raise DataError(
                f"datasets.{at} would give none of its {size} samples to an epoch", "raise its weight or its repeat"
            )
    if sum(result) > MOST_SAMPLES:
        message = f"an epoch would have {sum(result):,} samples, at most {MOST_SAMPLES:,} are possible"
        raise DataError(message, "lower repeat")
    return result


def draw(samples: np.ndarray, count: int, *, seed: int, number: int, epoch: int) -> np.ndarray:
    """`count` of these samples for an epoch: each count // len(samples) times, and the rest drawn.

    The rest of r samples is drawn without replacement over epochs too: the samples are shuffled, floor(len / r) epochs
    take r of them in turn, and then they are shuffled anew. So half of the samples come in one epoch, the other half in
    the next. The result is in the samples' order, pass after pass; `number` is that of the data set.
    """
    passes, rest = divmod(count, max(len(samples), 1))
    parts = [samples] * passes
    if rest:
        cycle, turn = divmod(epoch, len(samples) // rest)
        order = stream(seed, DRAWN, number, cycle).permutation(len(samples))
        parts.append(samples[np.sort(order[turn * rest : (turn + 1) * rest])])
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


@dataclass(frozen=True)
class Mixture:
    """The samples of each data set, and how many of them an epoch has."""

    members: tuple[np.ndarray, ...]
    counts: tuple[int, ...]
    seed: int

    @property
    def is_fixed(self) -> bool:
        """Whether every epoch has the same samples."""
        return all(
            not members.size or count % members.size == 0
            for members, count in zip(self.members, self.counts, strict=True)
        )

    @property
    def num_samples(self) -> int:
        """Of an epoch."""
        return sum(self.counts)

    def samples(self, epoch: int) -> np.ndarray:
        """The samples of an epoch, one data set after the other."""
        drawn = [
            draw(members, count, seed=self.seed, number=number, epoch=epoch)
            for number, (members, count) in enumerate(zip(self.members, self.counts, strict=True))
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *drawn])


def mix(
    sets: np.ndarray, indices: np.ndarray, *, shares: Sequence[Share], seed: int, shuffle_each: bool = False
) -> Mixture:
    """The mixture of the samples `indices`; sets (samples,) holds each sample's data set, `shares` is one for each data
    set. `shuffle_each` shuffles each data set by itself, once."""
    members = [indices[sets[indices] == number] for number in range(len(shares))]
    if shuffle_each:
        members = [stream(seed, SHUFFLED, number, 0).permutation(own) for number, own in enumerate(members)]
    return Mixture(tuple(members), tuple(counts([len(own) for own in members], shares)), seed)


def _shared_out(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """The sum of `sizes`, by weight (largest remainder method, Hamilton)."""
    total = sum(sizes)
    exact = [total * weight / sum(weights) for weight in weights]
    result = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda at: (result[at] - exact[at], at))
    for at in by_remainder[: total - sum(result)]:
        result[at] += 1
    return result


def _whole(number: float) -> int:
    return int(number + 0.5)
