"""One tokenised sample, and many of them as a few arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from axo.types import IGNORE_INDEX


class Turns(NamedTuple):
    """Which tokens of a sample hold the turns of its conversation."""

    roles: Sequence[str]
    """One for each turn."""
    tokens: np.ndarray
    """(turns, 1 + kinds, 2) int64: tokens [first, last) of a turn's own text and then of each kind of end-of-turn
    behind it, none where first == last. Some may lie behind the last token, where the sample was cut."""


@dataclass(frozen=True)
class Sample:
    ids: np.ndarray
    """(T,) int32."""
    labels: np.ndarray
    """(T,) int32, the id (or class) where it is trained and -100 elsewhere; not shifted."""
    straddling: int = 0
    """Tokens that hold characters which are trained and others which are not."""
    weights: np.ndarray | None = None
    """(T,) float32: how much each token counts in the loss; None: 1 where it is trained."""
    lost: int = 0
    """Tokens that the row itself had cut off."""
    front: int = 0
    """Special tokens that were put in front of its text."""
    turns: Turns | None = None
    """None where no conversation was rendered."""

    @cached_property
    def trained(self) -> int:
        """Targets that are trained."""
        return count_trained(self.labels)

    def piece(self, start: int, end: int) -> Sample:
        """Some of its tokens."""
        weights = None if self.weights is None else self.weights[start:end]
        turns = None if start else self.turns
        return Sample(self.ids[start:end], self.labels[start:end], weights=weights, turns=turns)

    def all_weights(self) -> np.ndarray:
        """(T,) float32, whether they are given or not."""
        return plain_weights(self.labels) if self.weights is None else self.weights


@dataclass(frozen=True)
class SampleBatch:
    """Samples one after the other, N tokens in all: what is left of them where they are written or sent."""

    ids: np.ndarray
    """(N,) int32."""
    labels: np.ndarray
    """(N,) int32."""
    weights: np.ndarray | None
    """(N,) float32; None where no sample has weights."""
    lengths: np.ndarray
    """(samples,) int32: tokens of each sample."""
    trained: np.ndarray
    """(samples,) int32: its targets that are trained."""

    def __len__(self) -> int:
        return len(self.lengths)

    def samples(self) -> list[Sample]:
        """Views of them, one by one."""
        bounds = pairwise([0, *np.cumsum(self.lengths).tolist()])
        own = [slice(*bound) for bound in bounds]
        weights = [None if self.weights is None else self.weights[at] for at in own]
        return [Sample(self.ids[at], self.labels[at], weights=one) for at, one in zip(own, weights, strict=True)]


def batch_of(samples: Sequence[Sample]) -> SampleBatch:
    """The ids, labels and weights of all these samples."""
    weights = None
    if any(sample.weights is not None for sample in samples):
        weights = _joined([sample.all_weights() for sample in samples], np.float32)
    return SampleBatch(
        ids=_joined([sample.ids for sample in samples], np.int32),
        labels=_joined([sample.labels for sample in samples], np.int32),
        weights=weights,
        lengths=np.array([len(sample.ids) for sample in samples], dtype=np.int32),
        trained=np.array([sample.trained for sample in samples], dtype=np.int32),
    )


def count_trained(labels: np.ndarray) -> int:
    """Targets that are trained: the first token of a sample is never one."""
    return int(np.count_nonzero(labels[1:] != IGNORE_INDEX))


def plain_weights(labels: np.ndarray) -> np.ndarray:
    """(T,) float32: 1 where a token is trained, 0 elsewhere."""
    return (labels != IGNORE_INDEX).astype(np.float32)


def _joined(values: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *values])
