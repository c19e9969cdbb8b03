"""Streams of random numbers, one for each purpose, that no update of numpy changes."""

from __future__ import annotations

import numpy as np

SPLIT, PACKED, EPOCH, DRAWN, SHUFFLED, PARTS, STREAMED, BALANCED = range(8)
"""What a stream is for, so that no two share one."""


def stream(seed: int, purpose: int, *numbers: int) -> np.random.RandomState:
    """A stream whose draws numpy has frozen (NEP 19), so that an update of numpy changes no run."""
    return np.random.RandomState([seed, purpose, *numbers])
