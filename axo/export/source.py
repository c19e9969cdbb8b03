"""Where the values of a tensor come from, block by block: a file, a file in few bits, or rows added to either."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch

from axo.export.tensor_file import FLOATS


class Source(Protocol):
    """A tensor whose rows can be asked for, by several threads at a time."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """The number format, by safetensors' name."""
        ...

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) as (stop - start, rest)."""
        ...


class Whole(ABC):
    """A tensor that is computed in one piece when its first row is asked for, and let go behind its last.

    Each row is asked for once by the writer, in order, so that never more than a few such tensors are held."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self._lock = threading.Lock()
        self._values: torch.Tensor | None = None
        self._num_left = shape[0]

    @abstractmethod
    def compute(self) -> torch.Tensor:
        """All values, of `shape`."""

    def rows(self, start: int, stop: int) -> torch.Tensor:
        with self._lock:
            if self._values is None:
                self._values, self._num_left = self.compute().reshape(self.shape[0], -1), self.shape[0]
            rows = self._values[start:stop]
            self._num_left -= stop - start
            if self._num_left <= 0:
                self._values = None
            return rows


@dataclass(frozen=True)
class Grown:
    """`source` with rows behind its last, all of which are the mean of its own."""

    source: Source
    num_rows: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_rows, *self.source.shape[1:])

    @property
    def dtype(self) -> str:
        return self.source.dtype

    def rows(self, start: int, stop: int) -> torch.Tensor:
        old = self.source.shape[0]
        kept = self.source.rows(start, min(stop, old)) if start < old else None
        if stop <= old:
            assert kept is not None
            return kept
        mean = _mean_row(self.source).to(FLOATS[self.dtype])
        added = mean.expand(stop - max(start, old), -1)
        return added if kept is None else torch.cat([kept, added])


_MEAN_VALUES = 1 << 22


def _mean_row(source: Source) -> torch.Tensor:
    """(columns,) float64."""
    num_rows = source.shape[0]
    step = max(1, _MEAN_VALUES * num_rows // max(1, math.prod(source.shape)))
    starts = range(0, num_rows, step)
    return sum((source.rows(at, min(at + step, num_rows)).double().sum(0) for at in starts), torch.zeros(1)) / num_rows
