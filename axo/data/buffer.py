"""What a stream gives at a time, and the small position from which it can be read on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from axo.data.held import HeldSamples


@dataclass(frozen=True)
class Position:
    """Where a step of the stream begins: the buffer by the rows before it, and the steps of the buffer before it."""

    epoch: int = 0
    """Passes over all data sets before this one."""
    dataset: int = 0
    """Number of the data set that the buffer begins in."""
    row: int = 0
    """Rows of that data set before the buffer, in this epoch."""
    step: int = 0
    """Steps of the buffer before this one."""
    rows: int = 0
    """Rows of all data sets and epochs before the buffer."""


@dataclass(frozen=True)
class Buffer:
    """Rows that were read together, and the steps they make."""

    start: Position
    num_rows: int
    samples: HeldSamples
    steps: Sequence[Sequence[np.ndarray]]
    """The packs of each optimizer step, of all ranks; the last step may have fewer."""
