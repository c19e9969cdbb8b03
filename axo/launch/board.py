"""What the parents of all nodes know of one another: node 0 hears how workers end and tells all what to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from axo.launch.failures import End
from axo.launch.stall import Position
from axo.launch.verdict import Verdict


class Board(Protocol):
    """One of these lives as long as a parent; `begin` starts it over when workers are started again. No call waits."""

    def begin(self, restarts: int) -> None: ...

    def post_ends(self, ends: Sequence[End]) -> None:
        """How workers of this node ended so far."""
        ...

    def all_ends(self) -> list[End]:
        """Of all nodes; node 0 only."""
        ...

    def ask_positions(self) -> None:
        """Somebody's step does not end: all nodes shall post where their workers stand."""
        ...

    @property
    def positions_asked_at(self) -> float | None: ...

    def post_positions(self, positions: Sequence[Position]) -> None: ...

    def all_positions(self) -> tuple[list[Position], bool]:
        """Of the nodes that have answered, and whether these are all; node 0 only."""
        ...

    def decide(self, verdict: Verdict) -> None:
        """Tell all nodes; node 0 only."""
        ...

    @property
    def verdict(self) -> Verdict | None: ...

    def lost(self) -> list[int]:
        """Numbers of nodes that have not been heard of for too long. For other nodes than 0 only node 0 counts."""
        ...

    def close(self) -> None:
        """Let others hear the verdict first."""
        ...


class OneNode:
    """The board of a node that is alone: its own memory."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, restarts: int) -> None:
        del restarts
        self._ends: list[End] = []
        self._positions: list[Position] | None = None
        self.positions_asked_at: float | None = None
        self.verdict: Verdict | None = None

    def post_ends(self, ends: Sequence[End]) -> None:
        self._ends = list(ends)

    def all_ends(self) -> list[End]:
        return self._ends

    def ask_positions(self) -> None:
        self.positions_asked_at = self.positions_asked_at or time.monotonic()

    def post_positions(self, positions: Sequence[Position]) -> None:
        self._positions = list(positions)

    def all_positions(self) -> tuple[list[Position], bool]:
        return self._positions or [], self._positions is not None

    def decide(self, verdict: Verdict) -> None:
        self.verdict = verdict

    def lost(self) -> list[int]:
        return []

    def close(self) -> None:
        return
