"""Samples that are held in memory: what a store is to collation, for a part of a data set that is read as it is
trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from axo.data.sample import Sample


class HeldSamples:
    """Samples by number, in one array of each kind; what it hands out are views."""

    lengths: np.ndarray
    """(samples,) int64: tokens of each sample."""
    trained: np.ndarray
    """(samples,) int64: targets of each sample that are trained."""
    sets: np.ndarray
    """(samples,) int16: number of the data set that each sample is of."""
    num_sets: int
    """Data sets of the stream, whether they have samples here or not."""

    def __init__(self, samples: Sequence[Sample], sets: Sequence[int], *, num_sets: int) -> None:
        self.lengths = np.array([len(sample.ids) for sample in samples], dtype=np.int64)
        self.trained = np.array([sample.trained for sample in samples], dtype=np.int64)
        self.sets = np.array(sets, dtype=np.int16)
        self.num_sets = num_sets
        self._bounds = np.concatenate([[0], np.cumsum(self.lengths)])
        self._ids = _joined([sample.ids for sample in samples], np.int32)
        self._labels = _joined([sample.labels for sample in samples], np.int32)
        self._weights = None
        if any(sample.weights is not None for sample in samples):
            self._weights = _joined([sample.all_weights() for sample in samples], np.float32)

    def __len__(self) -> int:
        return len(self.lengths)

    def ids(self, samples: np.ndarray) -> list[np.ndarray]:
        """The tokens of each of these samples, int32."""
        return self._pieces(self._ids, samples)

    def labels(self, samples: np.ndarray) -> list[np.ndarray]:
        """Their labels, int32, not shifted."""
        return self._pieces(self._labels, samples)

    def weights(self, samples: np.ndarray) -> list[np.ndarray]:
        """How much each of their tokens counts, float32; only where is_weighted."""
        assert self._weights is not None
        return self._pieces(self._weights, samples)

    @property
    def is_weighted(self) -> bool:
        """Whether some token counts other than 0 or 1."""
        return self._weights is not None

    def sample(self, number: int) -> Sample:
        """One of the samples."""
        own = slice(self._bounds[number], self._bounds[number + 1])
        return Sample(self._ids[own], self._labels[own], weights=None if self._weights is None else self._weights[own])

    def _pieces(self, values: np.ndarray, samples: np.ndarray) -> list[np.ndarray]:
        return [values[self._bounds[number] : self._bounds[number + 1]] for number in samples.tolist()]


def concatenated(
    held: HeldSamples, steps: Sequence[Sequence[np.ndarray]]
) -> tuple[HeldSamples, list[list[np.ndarray]]]:
    """The samples of each pack put together to one that sees all of itself, and the same packs of these; where a pack
    has samples of several data sets, those of each are one."""
    samples: list[Sample] = []
    sets: list[int] = []
    result: list[list[np.ndarray]] = []
    for packs in steps:
        result.append([])
        for pack in packs:
            first = len(samples)
            by_set = sorted(pack.tolist(), key=lambda number: held.sets[number])
            for dataset, numbers in groupby(by_set, key=lambda number: int(held.sets[number])):
                samples.append(_one([held.sample(number) for number in numbers]))
                sets.append(dataset)
            result[-1].append(np.arange(first, len(samples)))
    return HeldSamples(samples, sets, num_sets=held.num_sets), result


def _one(samples: Sequence[Sample]) -> Sample:
    weights = None
    if any(sample.weights is not None for sample in samples):
        weights = np.concatenate([sample.all_weights() for sample in samples])
    return Sample(
        np.concatenate([sample.ids for sample in samples]),
        np.concatenate([sample.labels for sample in samples]),
        weights=weights,
    )


def _joined(values: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *values])
