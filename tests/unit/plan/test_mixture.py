"""The Plan's lines on how often data sets are taken and what of them is lost, and steps of unequal epochs."""

from __future__ import annotations

from typing import Any

import pytest

from axo.plan.facts import DataFacts, Facts, Hardware, SetFacts
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.plan.steps import total_steps_of
from axo.recipe.recipe import recipe_from_flat

ONE = SetFacts("datasets.0", "math.jsonl", samples=40, epoch_samples=40, epoch_tokens=4000, tokens_read=4000)


def plan_of(*sets: SetFacts, packs_by_epoch: tuple[int, ...] = (), **keys: Any) -> Plan:
    recipe = recipe_from_flat(
        {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], **keys}
    )
    data = DataFacts(
        train_samples=60, train_tokens=6000, trained_tokens=900, train_packs=7, eval_samples=0,
        packs_by_epoch=packs_by_epoch, sets=sets,
    )  # fmt: skip
    return resolve(recipe, Facts(Hardware(cpu_count=2), {"model_type": "llama"}, data))


def lines(plan: Plan) -> list[tuple[str, str, str, str, bool]]:
    return [
        (one.key, one.asked, one.effective, one.why, one.warning)
        for one in plan.decisions
        if one.key.partition(".")[0] in ("datasets", "test_datasets")
    ]


def test_one_data_set_taken_once_needs_no_line() -> None:
    assert lines(plan_of(ONE)) == []


def test_each_data_set_of_a_mixture_has_a_line() -> None:
    two = SetFacts(
        "datasets.1", "org/code", asked="repeat: 0.5", samples=40, epoch_samples=20, epoch_tokens=1000, tokens_read=2000
    )
    assert lines(plan_of(ONE, two)) == [
        ("datasets.0", "once", "40 samples an epoch, 4,000 tokens, 80.0%", "math.jsonl", False),
        (
            "datasets.1",
            "repeat: 0.5",
            "20 samples an epoch, 1,000 tokens, 20.0%",
            "org/code: 0.5 x 40 samples",
            False,
        ),
    ]


def test_each_data_set_that_loses_tokens_has_a_warning() -> None:
    lossy = SetFacts("test_datasets.0", "t.jsonl", tokens_read=4000, tokens_lost=25, lost=("2 samples", "5 tokens"))
    assert lines(plan_of(ONE, lossy)) == [
        ("test_datasets.0", "all of it", "0.62% of its tokens lost (25 of 4,000)", "2 samples; 5 tokens", True)
    ]
    assert not any(one.fallback for one in plan_of(ONE, lossy, fallbacks="refuse").decisions)


@pytest.mark.parametrize(
    ("num_epochs", "expected"), [(1, 3), (2, 3 + 5), (2.5, 3 + 5 + 1), (3, 3 + 5 + 2), (0.5, 2), (1.9, 3 + 5)]
)
def test_steps_of_unequal_epochs_add_up(num_epochs: float, expected: int) -> None:
    assert total_steps_of([3, 5, 2], num_epochs=num_epochs) == expected


def test_the_plan_counts_the_steps_of_each_epoch() -> None:
    keys = {"num_epochs": 2, "micro_batch_size": 2}
    steps = plan_of(ONE, packs_by_epoch=(7, 9), **keys).steps
    assert steps is not None
    assert (steps.steps_per_epoch, steps.total_steps) == (4, 4 + 5)
    steps = plan_of(ONE, packs_by_epoch=(), max_steps=3, micro_batch_size=2).steps
    assert steps is not None
    assert steps.total_steps == 3


def test_what_a_chat_template_leaves_out_is_a_warning() -> None:
    data = SetFacts("datasets.0", "a.jsonl", samples=40, epoch_samples=40, tools_unwritten=3, reasoning_removed=1)
    assert lines(plan_of(data)) == [
        (
            "datasets.0.field_tools",
            "written",
            "none: 3 rows with tools that the chat template does not write",
            "choose a chat template that writes tools, or drop the column",
            True,
        ),
        (
            "datasets.0.field_thinking",
            "written",
            "1 message without it",
            "the chat template leaves the chain of thought of these out",
            True,
        ),
    ]
