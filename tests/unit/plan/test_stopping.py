"""When a run ends before its last step, as the Plan says it."""

from __future__ import annotations

from typing import Any

import pytest

from axo.plan.facts import Facts, Hardware
from axo.plan.plan import Plan, StoppingPlan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.support import assess

FULL: dict[str, Any] = {
    "base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], "val_set_size": 0.1,
}  # fmt: skip
EACH_STEPS = {"eval_steps": 10, "save_steps": 20}


def plan(**keys: Any) -> Plan:
    flat = {**FULL, **keys}
    assert assess(flat).refusals == ()
    return resolve(recipe_from_flat(flat), Facts(Hardware(cpu_count=2), {"model_type": "llama"}))


def said(plan: Plan, key: str) -> str | None:
    return next((one.effective for one in plan.decisions if one.key == key), None)


def test_without_its_keys_a_run_goes_to_its_end() -> None:
    made = plan()
    assert made.stopping == StoppingPlan()
    assert {said(made, key) for key in ("loss_watchdog_threshold", "early_stopping_patience")} == {None}


@pytest.mark.parametrize(("keys", "patience", "words"), [
    ({}, 3, "stops after 3 steps in a row above it"),
    ({"loss_watchdog_patience": 1}, 1, "stops after 1 step above it"),
])  # fmt: skip
def test_a_watchdog_waits_for_three_steps_unless_told_otherwise(
    keys: dict[str, Any], patience: int, words: str
) -> None:
    made = plan(loss_watchdog_threshold=5.0, **keys)
    assert made.stopping == StoppingPlan(watchdog_threshold=5.0, watchdog_patience=patience)
    assert said(made, "loss_watchdog_threshold") == words


def test_early_stopping_ends_with_the_best_weights_where_these_are_saved() -> None:
    """As in Axolotl, where early_stopping_patience switches load_best_model_at_end on."""
    made = plan(early_stopping_patience=2, **EACH_STEPS)
    assert made.stopping == StoppingPlan(metric="eval_loss", patience=2, take_best=True)
    assert said(made, "early_stopping_patience") == "stops after 2 evaluations in a row without a better eval_loss"
    assert said(made, "load_best_model_at_end") == "ends with the checkpoint of the best eval_loss"
    apart = plan(early_stopping_patience=2, eval_steps=20, save_steps=50)
    assert not apart.stopping.take_best
    assert said(apart, "load_best_model_at_end") == "ends with the last weights"
    assert not plan(early_stopping_patience=2, load_best_model_at_end=False, **EACH_STEPS).stopping.take_best


@pytest.mark.parametrize(
    ("keys", "metric", "greater"),
    [
        ({}, "eval_loss", False),
        ({"metric_for_best_model": "loss"}, "eval_loss", False),
        ({"metric_for_best_model": "eval_perplexity"}, "eval_perplexity", False),
        ({"metric_for_best_model": "token_accuracy"}, "eval_token_accuracy", True),
        ({"metric_for_best_model": "loss_math"}, "eval_loss_math", False),
        ({"metric_for_best_model": "loss", "greater_is_better": True}, "eval_loss", True),
        ({"metric_for_best_model": "token_accuracy", "greater_is_better": False}, "eval_token_accuracy", False),
    ],
)
def test_states_are_compared_by_the_metric_in_its_own_direction(
    keys: dict[str, Any], metric: str, greater: bool
) -> None:
    made = plan(load_best_model_at_end=True, **EACH_STEPS, **keys)
    assert made.stopping == StoppingPlan(metric=metric, greater_is_better=greater, take_best=True)
