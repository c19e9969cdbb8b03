"""Which tokens hold the characters of spans, for all texts of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axo.data.encode import Encoded
from axo.data.mask import Span


class Positions:
    """Characters of all texts of a batch, counted in a row, and the tokens that hold them."""

    def __init__(self, encoded: Encoded, texts: Sequence[str]) -> None:
        lengths = np.fromiter((len(text) + 1 for text in texts), dtype=np.int64, count=len(texts))
        self._offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        shift = np.repeat(self._offsets[:-1], np.diff(encoded.bounds))
        self._starts, self._ends = encoded.starts + shift, encoded.ends + shift

    def tokens(self, owners: Sequence[int], spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [first, last) of each span (start, end, ...) of the text `owners` names."""
        bounds = [span[:2] for span in spans]
        first, last = self.holding(owners, bounds)
        if any(span.whole for span in spans):
            whole = np.fromiter((span.whole for span in spans), dtype=bool, count=len(spans))
            starts, ends = self._characters(owners, bounds)
            first = np.where(whole, np.searchsorted(self._starts, starts, side="left"), first)
            last = np.where(whole, np.searchsorted(self._ends, ends, side="right"), last)
        return first, np.maximum(first, last)

    def holding(self, owners: Sequence[int], bounds: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [first, last) that hold any of the characters [start, end) of the text `owners` names."""
        if not bounds:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        starts, ends = self._characters(owners, bounds)
        first = np.searchsorted(self._ends, starts, side="right")
        return first, np.maximum(first, np.searchsorted(self._starts, ends, side="left"))

    def straddling(self, owners: Sequence[int], spans: Sequence[Span]) -> np.ndarray:
        """Tokens at the edges of spans that reach beyond them, sorted."""
        if not spans:
            return np.zeros(0, dtype=np.int64)
        bounds = [span[:2] for span in spans]
        first, last = self.holding(owners, bounds)
        starts, ends = self._characters(owners, bounds)
        some = last > first
        begins, stops = first[some], last[some] - 1
        crossing = (begins[self._starts[begins] < starts[some]], stops[self._ends[stops] > ends[some]])
        return np.unique(np.concatenate(crossing))

    def _characters(self, owners: Sequence[int], bounds: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        base = self._offsets[np.asarray(owners, dtype=np.int64)]
        places = np.array(bounds, dtype=np.int64)
        return base + places[:, 0], base + places[:, 1]


def covered(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` tokens lie in any range [first, last)."""
    depth = np.zeros(count + 1, dtype=np.int32)
    np.add.at(depth, first, 1)
    np.add.at(depth, last, -1)
    return np.cumsum(depth[:-1]) > 0
