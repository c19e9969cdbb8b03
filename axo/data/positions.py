"""Which tokens hold the characters of spans, for all texts of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axo.data.encode import Encoded


class Positions:
    """Characters of all texts of a batch, counted in a row, and the tokens that hold them."""

    def __init__(self, encoded: Encoded, texts: Sequence[str]) -> None:
        lengths = np.fromiter((len(text) + 1 for text in texts), dtype=np.int64, count=len(texts))
        self._offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        shift = np.repeat(self._offsets[:-1], np.diff(encoded.bounds))
        self._starts, self._ends = encoded.starts + shift, encoded.ends + shift

    def characters(self, owners: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """(spans, ..., 2) bounds within the texts `owners`, counted in a row."""
        return bounds + self._offsets[owners].reshape(-1, *[1] * (bounds.ndim - 1))

    def holding(self, characters: np.ndarray) -> np.ndarray:
        """(..., 2): tokens [first, last) that hold any of the characters [start, end)."""
        first = np.searchsorted(self._ends, characters[..., 0], side="right")
        last = np.searchsorted(self._starts, characters[..., 1], side="left")
        return np.stack([first, np.maximum(first, last)], axis=-1)

    def inside(self, characters: np.ndarray) -> np.ndarray:
        """(..., 2): tokens [first, last) that hold only characters [start, end)."""
        first = np.searchsorted(self._starts, characters[..., 0], side="left")
        last = np.searchsorted(self._ends, characters[..., 1], side="right")
        return np.stack([first, np.maximum(first, last)], axis=-1)

    def straddling(self, characters: np.ndarray) -> np.ndarray:
        """Tokens at the edges of spans (spans, 2) that reach beyond them, sorted."""
        held = self.holding(characters)
        some = held[:, 0] < held[:, 1]
        (begins, lasts), (starts, ends) = held[some].T, characters[some].T
        stops = lasts - 1
        return np.unique(np.concatenate((begins[self._starts[begins] < starts], stops[self._ends[stops] > ends])))


def covered(tokens: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` tokens lie in any range [first, last) of (ranges, 2)."""
    depth = np.bincount(tokens[:, 0], minlength=count + 1) - np.bincount(tokens[:, 1], minlength=count + 1)
    return np.cumsum(depth[:-1]) > 0
