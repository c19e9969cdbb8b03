"""Closed formulas against transformers and hand-worked numbers."""

from __future__ import annotations

import math

import pytest

from axo.plan.plan import Cadence
from axo.plan.steps import cadence, is_due, logging_steps, steps_per_epoch, total_steps, warmup_steps


@pytest.mark.parametrize(("packs", "packs_per_step", "expected"), [(8, 4, 2), (9, 4, 3), (1, 4, 1), (4, 1, 4)])
def test_the_last_step_of_an_epoch_may_be_smaller(packs: int, packs_per_step: int, expected: int) -> None:
    assert steps_per_epoch(packs, packs_per_step=packs_per_step) == expected


@pytest.mark.parametrize(("num_epochs", "expected"), [(1.0, 7), (3.0, 21), (0.5, 4), (1.5, 11)])
def test_epochs_round_up_to_a_whole_step(num_epochs: float, expected: int) -> None:
    assert total_steps(per_epoch=7, num_epochs=num_epochs, max_steps=None) == expected


def test_max_steps_takes_precedence() -> None:
    assert total_steps(per_epoch=7, num_epochs=3, max_steps=5) == 5


@pytest.mark.parametrize(
    ("total", "ratio", "expected"),
    [(100, 0.0, 0), (100, 0.05, 5), (33, 0.1, 3), (39, 0.1, 3), (19, 0.1, 2), (9, 0.1, 0), (7, 0.5, 3), (10, 1.0, 10)],
)
def test_warmup_ratio_is_rounded_down_and_one_step_becomes_two(total: int, ratio: float, expected: int) -> None:
    assert warmup_steps(total, steps=None, ratio=ratio) == expected


@pytest.mark.parametrize(("asked", "expected"), [(0, 0), (1, 2), (2, 2), (50, 50)])
def test_asked_warmup_is_kept_but_for_a_single_step(asked: int, expected: int) -> None:
    assert warmup_steps(10, steps=asked, ratio=None) == expected


@pytest.mark.parametrize(("total", "expected"), [(10, 0), (34, 2), (66, 2), (67, 2), (100, 3), (5000, 100)])
def test_unset_warmup_is_three_percent_up_to_a_hundred_and_never_one(total: int, expected: int) -> None:
    hand = min(int(0.03 * total), 100)
    assert warmup_steps(total, steps=None, ratio=None) == expected == (2 if hand == 1 else hand)


@pytest.mark.parametrize(("total", "expected"), [(10, 1), (400, 2), (10_000, 10)])
def test_unset_logging_is_half_a_percent_from_one_to_ten(total: int, expected: int) -> None:
    assert logging_steps(total, asked=None) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"strategy": "no", "steps": 5}, None),
        ({"strategy": False}, None),
        ({"steps": 5.0}, Cadence(steps=5)),
        ({"steps": 0.25}, Cadence(steps=25)),
        ({"per_epoch": 4}, Cadence(steps=math.ceil(100 / 8))),
        ({"per_epoch": 0}, None),
        ({}, Cadence(epoch=True)),
        ({"strategy": "epoch"}, Cadence(epoch=True)),
    ],
)
def test_cadence_of_a_hundred_steps_in_two_epochs(keys: dict[str, object], expected: Cadence | None) -> None:
    asked = {"strategy": None, "steps": None, "per_epoch": None, **keys}
    assert cadence(**asked, total=100, num_epochs=2) == expected  # type: ignore[arg-type]


def test_an_epoch_cadence_falls_on_epoch_ends_and_on_the_last_step() -> None:
    when = Cadence(epoch=True)
    due = [step for step in range(1, 8) if is_due(when, step=step, epoch_end=step % 3 == 0, last=step == 7)]
    assert due == [3, 6, 7]


def test_a_step_cadence_falls_on_its_multiples_only() -> None:
    when = Cadence(steps=3)
    assert [step for step in range(1, 8) if is_due(when, step=step, epoch_end=False, last=step == 7)] == [3, 6]
    assert not is_due(None, step=3, epoch_end=True, last=True)
