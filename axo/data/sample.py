"""One tokenised sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from axo.types import IGNORE_INDEX


class TurnTokens(NamedTuple):
    """Which tokens of a sample hold a turn."""

    role: str
    first: int
    last: int
    """One past those of the turn and its end-of-turn."""
    own_last: int
    """One past those of the turn's own text."""
    ends: Sequence[tuple[int, int]]
    """Tokens [first, last) of each end-of-turn behind it."""


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
    turns: Sequence[TurnTokens] = ()
    """The turns of a conversation; some may lie behind the last token, where the sample was cut."""

    def piece(self, start: int, end: int) -> Sample:
        """Some of its tokens."""
        weights = None if self.weights is None else self.weights[start:end]
        turns = () if start else self.turns
        return Sample(self.ids[start:end], self.labels[start:end], weights=weights, turns=turns)

    def all_weights(self) -> np.ndarray:
        """(T,) float32, whether they are given or not."""
        return (self.labels != IGNORE_INDEX).astype(np.float32) if self.weights is None else self.weights
