"""What became of rows is counted the same, whether one count sees all of them or several see parts."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from axo.data.keep import Count, pieces_kept
from axo.data.messages import Segments
from axo.data.rows import Row
from axo.data.sample import Sample, Turns
from axo.data.unit import Unit
from axo.recipe.data import DataSection


def sample(length: int, *, trained: int = 1, straddling: int = 0, lost: int = 0) -> Sample:
    """One whose last tokens are trained and one turn."""
    ids = np.arange(length, dtype=np.int32)
    turns = Turns(["assistant"], np.array([[[0, length]]]))
    labels = np.where(ids < length - trained, -100, ids).astype(np.int32)
    return Sample(ids, labels, straddling, lost=lost, turns=turns)


ROWS = [
    [sample(6, straddling=2)],
    [sample(20, lost=3)],
    [sample(1)],
    [sample(5, trained=0)],
    [sample(4), sample(7, trained=3)],
    [sample(4), sample(12)],
]


def counted(rows: list[list[Sample]], *, strategy: str) -> Count:
    data = DataSection.model_validate({"sequence_len": 10, "excess_length_strategy": strategy})
    count = Count()
    for own in rows:
        unit = Unit(Row({}, "rows", 1), (Segments((("", 1.0),), add_bos=False, add_eos=False),) * len(own))
        for kept in pieces_kept(own, unit, data, count):
            count.turns.add(kept)
        count.rows += 1
    return count


@pytest.mark.parametrize("at", range(len(ROWS) + 1))
@pytest.mark.parametrize("strategy", ["drop", "truncate"])
def test_counts_of_parts_add_up(strategy: str, at: int) -> None:
    first = counted(ROWS[:at], strategy=strategy)
    first.merge(counted(ROWS[at:], strategy=strategy))
    assert asdict(first) == asdict(counted(ROWS, strategy=strategy))


def test_every_number_is_as_worked_out_by_hand() -> None:
    count = counted(ROWS, strategy="drop")
    given = {name: value for name, value in asdict(count).items() if value and name != "turns"}
    assert given == {
        "rows": 6,
        "samples": 3,
        "tokens_read": 6 + 20 + 3 + 1 + 5 + 11 + 16,
        "tokens_kept": 6 + 11,
        "tokens_dropped": 20 + 1 + 5 + 16,
        "tokens_truncated": 3,
        "trained_tokens": 1 + 1 + 3,
        "samples_dropped_long": 3,
        "samples_dropped_short": 1,
        "samples_dropped_untrained": 1,
        "tokens_dropped_long": 36,
        "tokens_dropped_short": 1,
        "tokens_dropped_untrained": 5,
        "straddling_tokens": 2,
    }
    assert (dict(count.turns.role_tokens), dict(count.turns.role_trained)) == ({"assistant": 17}, {"assistant": 5})
