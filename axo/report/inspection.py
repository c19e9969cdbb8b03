"""What is found out about the data of a recipe: counts of each data set, and rows with every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from axo.data.look import Seen
from axo.data.parity import ParityCount
from axo.data.report import SetReport
from axo.errors import AxoError

BINS = 32


@dataclass(frozen=True)
class Histogram:
    """How many kept samples have how many tokens."""

    width: int
    """Tokens of a bar: bar n is of width * n + 1 to width * (n + 1) tokens."""
    counts: list[int]
    longest: int
    median: int


def histogram(lengths: np.ndarray, *, sequence_len: int) -> Histogram:
    """Bars up to sequence_len or the longest sample, whichever is more."""
    longest = int(lengths.max(initial=0))
    width = -(-max(sequence_len, longest) // BINS)
    bars = -(-max(sequence_len, longest) // width)
    counts = np.bincount((lengths.astype(np.int64) - 1) // width, minlength=bars)
    return Histogram(width, counts.tolist(), longest, int(np.median(lengths)) if len(lengths) else 0)


@dataclass(frozen=True)
class Packing:
    """The rows of the first epoch."""

    asked: bool
    """sample_packing; else it is what it would be."""
    packs: int
    tokens: int
    capacity: int
    """packs x sequence_len."""

    @property
    def efficiency(self) -> float:
        return self.tokens / self.capacity if self.capacity else 0.0


@dataclass(frozen=True)
class Inspected:
    """One data set."""

    key: str
    """`datasets.0`."""
    name: str
    """What it is called in reports."""
    type: str
    """Name of the format."""
    report: SetReport
    lengths: Histogram
    sequence_len: int
    """Of its samples."""
    duplicates: int
    """Kept samples with the very tokens of an earlier one of the data set."""
    parity: ParityCount | None
    """None where there are no conversations."""
    wrong_rows: int
    """Rows that cannot be read or written, and are left out of the counts; there are none where nothing is refused."""
    rows: Sequence[Seen]
    choice: str
    """Which rows these are."""
    counted: str = ""
    """What is counted, where it is not all of it."""


@dataclass(frozen=True)
class Inspection:
    recipe: str
    tokenizer: str
    sequence_len: int
    sets: Sequence[Inspected]
    packing: Packing | None
    """None where samples are compared, or nothing is left to train."""
    prepared: Sequence[str]
    """Folders of the prepared data."""
    refusal: AxoError | None = None
    """Why training would refuse the data as it is."""
