"""Counts the turns of samples as they are kept: a turn that is cut off has lost its end, whatever its text said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from axo.data.sample import Sample
from axo.types import IGNORE_INDEX


@dataclass
class TurnCount:
    role_tokens: Counter[str] = field(default_factory=Counter[str])
    """Tokens of the turns of each role, with their end-of-turn."""
    role_trained: Counter[str] = field(default_factory=Counter[str])
    """Those of them that are trained."""
    trained: int = 0
    """Turns of which something is trained."""
    ended: int = 0
    """Those of them whose end-of-turn is trained."""

    def add(self, sample: Sample) -> None:
        """Count the turns of a sample, as far as its tokens go."""
        if not sample.turns:
            return
        length = len(sample.ids)
        before = [0, *accumulate((sample.labels != IGNORE_INDEX).tolist())]
        for turn in sample.turns:
            if turn.first >= length:
                continue
            self.role_tokens[turn.role] += min(turn.last, length) - turn.first
            self.role_trained[turn.role] += before[min(turn.last, length)] - before[turn.first]
            if before[min(turn.own_last, length)] > before[turn.first]:
                self.trained += 1
                self.ended += any(
                    first < last <= length and before[last] - before[first] == last - first for first, last in turn.ends
                )
