"""Learning rates step by step against transformers' schedulers, torch's OneCycleLR, Axolotl's values and hand-worked
numbers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import optimization

from axo.optim import schedules
from axo.recipe.optim import OptimSection
from axo.recipe.optim_settings import SCHEDULE_SETTINGS
from axo.registry.tables import SCHEDULES

PEAK = 2e-4
SIZES = [(10, 0), (10, 3), (1, 0), (7, 7), (100, 2), (23, 5)]


def rates_of(make: Callable[..., Any], steps: int, **options: Any) -> list[float]:
    """The learning rate that each of `steps` optimizer steps runs at, by an upstream scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer, **options)
        rates = [optimizer.param_groups[0]["lr"]]
        for _ in range(steps - 1):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
    return rates


def rates_of_axo(name: str, total: int, warmup: int, **keys: Any) -> list[float]:
    section = OptimSection(learning_rate=PEAK, lr_scheduler=name, **keys)  # type: ignore[arg-type]
    learning_rate = schedules.make_schedule(section, total_steps=total, warmup_steps=warmup)
    return [learning_rate(step) for step in range(total)]


def factors(name: str, total: int, warmup: int, **keys: Any) -> list[float]:
    return [rate / PEAK for rate in rates_of_axo(name, total, warmup, **keys)]


def close(expected: list[float]) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize(("total", "warmup"), SIZES)
@pytest.mark.parametrize(
    ("name", "given_settings"),
    [
        ("linear", {}),
        ("cosine", {}),
        ("cosine", {"num_cycles": 1.5}),
        ("constant_with_warmup", {}),
        ("cosine_with_restarts", {}),
        ("cosine_with_restarts", {"num_cycles": 3}),
        ("polynomial", {}),
        ("polynomial", {"lr_end": 1e-5, "power": 2.0}),
        ("inverse_sqrt", {}),
        ("inverse_sqrt", {"timescale": 40}),
        ("cosine_with_min_lr", {"min_lr": 3e-5}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.2, "num_cycles": 1.0}),
        ("cosine_warmup_with_min_lr", {"min_lr": 3e-5}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2, "warmup_lr_rate": 0.4}),
        ("warmup_stable_decay", {"num_decay_steps": 3}),
        ("warmup_stable_decay", {"num_decay_steps": 4, "num_stable_steps": 2, "min_lr_ratio": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 4, "warmup_type": "cosine", "decay_type": "1-sqrt"}),
        ("warmup_stable_decay", {"num_decay_steps": 2, "warmup_type": "1-sqrt", "decay_type": "linear"}),
    ],
)
def test_each_step_has_the_learning_rate_of_transformers(
    name: str, given_settings: dict[str, Any], total: int, warmup: int
) -> None:
    make = optimization.TYPE_TO_SCHEDULER_FUNCTION[name]
    known = inspect.signature(make).parameters
    sizes = {"num_warmup_steps": warmup, "num_training_steps": total}
    sizes = {key: value for key, value in sizes.items() if key in known}
    expected = rates_of(make, total, **sizes, **given_settings)
    assert rates_of_axo(name, total, warmup, lr_scheduler_kwargs=given_settings) == close(expected)


@pytest.mark.parametrize(("total", "warmup"), SIZES)
def test_constant_never_changes(total: int, warmup: int) -> None:
    assert rates_of_axo("constant", total, warmup) == [PEAK] * total


@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (10, 3), (7, 7), (100, 2), (23, 5)])
@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"anneal_strategy": "linear", "div_factor": 10.0},
        {"final_div_factor": 100.0, "pct_start": 0.3},
        {"three_phase": True, "pct_start": 0.4},
    ],
)
def test_one_cycle_has_the_learning_rate_of_torch(given_settings: dict[str, Any], total: int, warmup: int) -> None:
    """Called as Axolotl calls it; the momentum, which is no learning rate, is left alone."""
    options = {"pct_start": warmup / total, "anneal_strategy": "cos", "cycle_momentum": False, **given_settings}
    expected = rates_of(torch.optim.lr_scheduler.OneCycleLR, total, max_lr=PEAK, total_steps=total, **options)
    rates = rates_of_axo("one_cycle", total, warmup, lr_scheduler_kwargs={**given_settings, "cycle_momentum": False})
    assert rates == close(expected)


AXOLOTL = [
    ("rex", (8, 0), {}, [0.985915492958, 0.967741935484, 0.943396226415, 0.909090909091, 0.857142857143,
                         0.769230769231, 0.588235294118, 0.0]),
    ("rex", (8, 3), {}, [0.333333333333, 0.666666666667, 1.0, 0.975609756098, 0.9375, 0.869565217391,
                         0.714285714286, 0.0]),
    ("rex", (8, 3), {"cosine_min_lr_ratio": 0.25}, [0.333333333333, 0.666666666667, 1.0, 0.981707317073, 0.953125,
                                                    0.902173913043, 0.785714285714, 0.25]),
    ("rex", (4, 4), {"cosine_min_lr_ratio": 0.1}, [0.25, 0.5, 0.75, 1.0]),
    ("cosine", (8, 3), {"lr_quadratic_warmup": True},
     [0.0, 0.111111111111, 0.444444444444, 1.0, 0.904508497187, 0.654508497187, 0.345491502813, 0.095491502813]),
    ("cosine", (8, 0), {"cosine_constant_lr_ratio": 0.75, "cosine_min_lr_ratio": 0.2},
     [1.0, 0.946410161514, 0.8, 0.6, 0.4, 0.253589838486, 0.2, 0.2]),
    ("cosine", (8, 3), {"cosine_constant_lr_ratio": 0.75, "cosine_min_lr_ratio": 0.2},
     [0.0, 0.333333333333, 0.666666666667, 1.0, 0.8, 0.4, 0.2, 0.2]),
    ("cosine", (8, 3), {"cosine_constant_lr_ratio": 0.25, "cosine_min_lr_ratio": 0.2},
     [0.0, 0.333333333333, 0.666666666667, 0.2, 0.2, 0.2, 0.2, 0.2]),
]  # fmt: skip
"""What Axolotl's schedulers gave, at each step, as shares of the highest learning rate."""


@pytest.mark.parametrize(("name", "sizes", "keys", "expected"), AXOLOTL)
def test_schedules_of_axolotl_have_its_values(
    name: str, sizes: tuple[int, int], keys: dict[str, Any], expected: list[float]
) -> None:
    assert factors(name, *sizes, **keys) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize(("total", "warmup"), SIZES)
@pytest.mark.parametrize("min_ratio", [0.1, 1.0])
def test_cosine_with_a_minimum_is_that_of_transformers(total: int, warmup: int, min_ratio: float) -> None:
    expected = rates_of(
        optimization.get_cosine_with_min_lr_schedule_with_warmup,
        total, num_warmup_steps=warmup, num_training_steps=total, min_lr_rate=min_ratio,
    )  # fmt: skip
    assert rates_of_axo("cosine", total, warmup, cosine_min_lr_ratio=min_ratio) == close(expected)


@pytest.mark.parametrize("name", sorted({"linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"}))
def test_a_minimum_is_that_of_cosine_and_rex_alone_as_in_axolotl(name: str) -> None:
    assert rates_of_axo(name, 6, 2, cosine_min_lr_ratio=0.2) == rates_of_axo(name, 6, 2)


def test_linear_is_a_straight_line_to_0() -> None:
    """By hand: 4 steps of decay from 1 lose 0.25 each, and the step after the last would be at 0."""
    assert factors("linear", 6, 2) == pytest.approx([0.0, 0.5, 1.0, 0.75, 0.5, 0.25])


ENDS = {
    "one_cycle": 1 / 25 / 1e4,
    "rex": 0.0,
    "cosine_warmup_with_min_lr": 0.3,
}
"""Schedules whose last step runs at their lowest value; the others are one step above it."""


@pytest.mark.parametrize("name", ENDS)
def test_the_last_step_runs_at_the_end_of_a_schedule_that_reaches_it(name: str) -> None:
    keys = {"lr_scheduler_kwargs": {"min_lr_rate": 0.3}} if "min_lr" in name else {}
    assert factors(name, 40, 6, **keys)[-1] == pytest.approx(ENDS[name])


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial"])
def test_the_last_step_of_the_others_is_one_step_above_their_lowest_value(name: str) -> None:
    keys = {"lr_scheduler_kwargs": {"lr_end": 0}} if name == "polynomial" else {}
    schedule = schedules.make_schedule(
        OptimSection(learning_rate=PEAK, lr_scheduler=name, **keys),  # type: ignore[arg-type]
        total_steps=10, warmup_steps=0,
    )  # fmt: skip
    assert schedule(9) > schedule(10) == 0


@pytest.mark.parametrize("name", list(SCHEDULES))
@settings(max_examples=40, deadline=None)
@given(total=st.integers(1, 300), share=st.floats(0, 1), step=st.integers(0, 299))
def test_a_factor_lies_between_0_and_1(name: str, total: int, share: float, step: int) -> None:
    needed = {"warmup_stable_decay": {"num_decay_steps": 5}, "cosine_with_min_lr": {"min_lr_rate": 0.1},
              "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1}}  # fmt: skip
    section = OptimSection(learning_rate=1.0, lr_scheduler=name, lr_scheduler_kwargs=needed.get(name))  # type: ignore[arg-type]
    schedule = schedules.make_schedule(section, total_steps=total, warmup_steps=int(share * total))
    assert 0 <= schedule(min(step, total - 1)) <= 1 + 1e-12


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("one_cycle", "rex")])
def test_settings_are_parameters_of_transformers(name: str) -> None:
    known = inspect.signature(optimization.TYPE_TO_SCHEDULER_FUNCTION[name]).parameters
    assert set(SCHEDULE_SETTINGS[name]) <= set(known)


def test_settings_of_one_cycle_are_parameters_of_torch() -> None:
    assert set(SCHEDULE_SETTINGS["one_cycle"]) <= set(inspect.signature(torch.optim.lr_scheduler.OneCycleLR).parameters)


def test_every_schedule_has_its_settings() -> None:
    assert set(SCHEDULE_SETTINGS) == set(SCHEDULES)
