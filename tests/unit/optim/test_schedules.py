"""Learning rates step by step against transformers' schedulers and hand-worked numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from axo.optim import schedules
from axo.recipe.optim import OptimSection

PEAK = 2e-4
SIZES = [(10, 0), (10, 3), (1, 0), (7, 7), (100, 1)]


def rates_of_transformers(make: Callable[..., torch.optim.lr_scheduler.LambdaLR], steps: int, **options: float):
    """The learning rate that each of `steps` optimizer steps runs at."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler = make(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def rates_of_axo(name: str, *, total_steps: int, warmup_steps: int, min_ratio: float | None = None) -> list[float]:
    section = OptimSection(learning_rate=PEAK, lr_scheduler=name, cosine_min_lr_ratio=min_ratio)
    learning_rate = schedules.make_schedule(section, total_steps=total_steps, warmup_steps=warmup_steps)
    return [learning_rate(step) for step in range(total_steps)]


@pytest.mark.parametrize(("total", "warmup"), SIZES)
@pytest.mark.parametrize(
    ("name", "oracle"), [("cosine", get_cosine_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup)]
)
def test_each_step_has_the_learning_rate_of_transformers(name: str, oracle, total: int, warmup: int) -> None:
    expected = rates_of_transformers(oracle, total, num_warmup_steps=warmup, num_training_steps=total)
    assert rates_of_axo(name, total_steps=total, warmup_steps=warmup) == pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize(("total", "warmup"), SIZES)
@pytest.mark.parametrize("name", ["constant", "constant_with_warmup"])
def test_constant_has_the_learning_rate_of_transformers(name: str, total: int, warmup: int) -> None:
    expected = rates_of_transformers(get_constant_schedule_with_warmup, total, num_warmup_steps=warmup)
    assert rates_of_axo(name, total_steps=total, warmup_steps=warmup) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("total", "warmup"), SIZES)
@pytest.mark.parametrize("min_ratio", [0.1, 1.0])
def test_cosine_with_a_minimum_is_that_of_transformers(total: int, warmup: int, min_ratio: float) -> None:
    expected = rates_of_transformers(
        get_cosine_with_min_lr_schedule_with_warmup,
        total,
        num_warmup_steps=warmup,
        num_training_steps=total,
        min_lr_rate=min_ratio,
    )
    rates = rates_of_axo("cosine", total_steps=total, warmup_steps=warmup, min_ratio=min_ratio)
    assert rates == pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("name", ["linear", "constant", "constant_with_warmup"])
def test_a_minimum_is_cosines_alone_as_in_axolotl(name: str) -> None:
    without = rates_of_axo(name, total_steps=6, warmup_steps=2)
    assert rates_of_axo(name, total_steps=6, warmup_steps=2, min_ratio=0.2) == without


def test_linear_is_a_straight_line_to_0() -> None:
    """By hand: 4 steps of decay from 1 lose 0.25 each."""
    factors = [schedules.linear(step, total_steps=6, warmup_steps=2, min_ratio=0.2) for step in range(7)]
    assert factors == pytest.approx([0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_the_last_planned_step_is_one_step_before_the_lowest_value() -> None:
    assert schedules.linear(9, total_steps=10, warmup_steps=0) == pytest.approx(0.1)
    assert schedules.linear(10, total_steps=10, warmup_steps=0) == 0.0
    assert schedules.cosine(10, total_steps=10, warmup_steps=0, min_ratio=0.25) == pytest.approx(0.25)


@pytest.mark.parametrize("schedule", [schedules.cosine, schedules.linear, schedules.constant])
@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 500),
    warmup=st.integers(0, 600),
    min_ratio=st.floats(0, 1, allow_nan=False),
    step=st.integers(0, 1200),
)
def test_a_factor_rises_to_one_and_never_falls_below_the_minimum(schedule, total, warmup, min_ratio, step) -> None:
    def factor(at: int) -> float:
        return schedule(at, total_steps=total, warmup_steps=warmup, min_ratio=min_ratio)

    assert 0 <= factor(step) <= 1 + 1e-12
    if step < warmup:
        assert factor(step) <= factor(step + 1) + 1e-12
    else:
        assert factor(step) >= (min_ratio if schedule is schedules.cosine else 0) - 1e-12
        assert factor(step) >= factor(step + 1) - 1e-12
    assert factor(warmup) == pytest.approx(1.0)
