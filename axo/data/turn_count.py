"""Counts the turns of samples as they are kept: a turn that is cut off has lost its end, whatever its text said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, compress

import numpy as np

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

    def add(self, samples: Sequence[Sample]) -> None:
        """Count the turns of samples of one data set, as far as their tokens go."""
        own = [(sample, sample.turns) for sample in samples if sample.turns is not None]
        if not own:
            return
        lengths = np.array([len(sample.ids) for sample, _ in own])
        owners = np.repeat(np.arange(len(own)), [len(turns.roles) for _, turns in own])
        stop = np.cumsum(lengths)[owners]
        # From here on tokens are counted through all samples; a turn and its ends reach no further than its sample.
        tokens = np.concatenate([turns.tokens for _, turns in own]) + (stop - lengths[owners])[:, None, None]
        first, last = np.moveaxis(np.minimum(tokens, stop[:, None, None]), 2, 0)
        before = _trained_before([sample.labels for sample, _ in own])
        trained = before[last] - before[first]
        whole = (first < last) & (tokens[:, :, 1] <= stop[:, None]) & (trained == last - first)
        self.trained += int(np.count_nonzero(trained[:, 0]))
        self.ended += int(np.count_nonzero(whole[trained[:, 0] > 0, 1:].any(axis=1)))
        begin, end = first[:, 0], last.max(axis=1)
        begun = begin < stop
        roles = list(compress(chain.from_iterable(turns.roles for _, turns in own), begun.tolist()))
        _add(self.role_tokens, roles, (end - begin)[begun])
        _add(self.role_trained, roles, (before[end] - before[begin])[begun])

    def merge(self, other: TurnCount) -> None:
        """Count what another has counted too."""
        self.role_tokens.update(other.role_tokens)
        self.role_trained.update(other.role_trained)
        self.trained += other.trained
        self.ended += other.ended


def _trained_before(labels: Sequence[np.ndarray]) -> np.ndarray:
    """(N + 1,) int64: how many tokens are trained before each of the N tokens of all samples, and in all."""
    trained = np.concatenate(labels) != IGNORE_INDEX
    before = np.zeros(len(trained) + 1, dtype=np.int64)
    np.cumsum(trained, out=before[1:])
    return before


def _add(count: Counter[str], roles: Sequence[str], amounts: np.ndarray) -> None:
    """Count amounts by their roles."""
    numbers = {role: number for number, role in enumerate(dict.fromkeys(roles))}
    owners = np.fromiter((numbers[role] for role in roles), np.int64, len(roles))
    sums = np.bincount(owners, amounts, len(numbers))
    count.update({role: int(sums[number]) for role, number in numbers.items()})
