"""The Plan of streamed data: its steps are those of max_steps, known before a row is read."""

from __future__ import annotations

from typing import Any

import pytest

from axo.plan.facts import DataFacts, Facts, Hardware
from axo.plan.plan import Cadence, Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.remark import Remark
from axo.recipe.rules import remarks

TEXT: dict[str, Any] = {"pretraining_dataset": [{"path": "z/w"}]}
CHATS: dict[str, Any] = {"datasets": [{"path": "z/w", "type": "alpaca"}], "streaming": True}
NOTHING = DataFacts(train_samples=0, train_tokens=0, trained_tokens=0, train_packs=0, eval_samples=0)


def flat(keys: dict[str, Any]) -> dict[str, Any]:
    return {"base_model": "x/y", "learning_rate": 1e-3, "sequence_len": 64, "max_steps": 1000, **keys}


def plan_of(keys: dict[str, Any], *, data: DataFacts | None = None) -> Plan:
    return resolve(recipe_from_flat(flat(keys)), Facts(Hardware(cpu_count=8), {"model_type": "llama"}, data))


@pytest.mark.parametrize("streamed", [TEXT, CHATS], ids=["text", "chats"])
def test_the_steps_of_a_stream_are_known_before_and_after_it_is_opened(streamed: dict[str, Any]) -> None:
    for plan in (plan_of({**streamed, "save_steps": 0.1}), plan_of({**streamed, "save_steps": 0.1}, data=NOTHING)):
        assert plan.steps is not None
        assert (plan.steps.steps_per_epoch, plan.steps.total_steps, plan.steps.warmup_steps) == (None, 1000, 30)
        assert plan.steps.save == Cadence(steps=100) and plan.steps.evaluate is None
        (line,) = [one for one in plan.decisions if one.key == "max_steps"]
        assert (line.effective, "streamed" in line.why) == ("1000 steps", True)


def test_a_stream_is_evaluated_on_test_datasets() -> None:
    keys = {**TEXT, "test_datasets": [{"path": "z/v", "type": "pretrain"}], "evals_per_epoch": 4}
    scored = DataFacts(train_samples=0, train_tokens=0, trained_tokens=0, train_packs=0, eval_samples=5)
    for data in (None, scored):
        plan = plan_of(keys, data=data)
        assert plan.steps is not None and plan.steps.evaluate == Cadence(steps=250)


def test_the_end_of_an_epoch_is_no_good_time_to_save_a_stream() -> None:
    def doubts(keys: dict[str, Any]) -> list[str]:
        return [one.key for one in plan_of(keys).decisions if one.warning]

    assert doubts(TEXT) == ["save_strategy"]
    assert doubts({**TEXT, "save_steps": 100}) == doubts({**TEXT, "save_strategy": "no"}) == []
    assert doubts({**CHATS, "streaming": False}) == []


@pytest.mark.parametrize(
    ("keys", "idle"),
    [
        ({**TEXT, "streaming": False}, ["streaming"]),
        ({**TEXT, "pretrain_multipack_attn": False}, ["pretrain_multipack_attn"]),
        ({**TEXT, "pretrain_multipack_attn": False, "sample_packing": True}, []),
        (
            {**TEXT, "pretraining_sample_concatenation": True, "sample_packing": True},
            ["pretraining_sample_concatenation"],
        ),
        ({**TEXT, "pretraining_sample_concatenation": True}, []),
        ({**CHATS, "pretrain_multipack_attn": False, "sample_packing": True}, ["pretrain_multipack_attn"]),
    ],
)
def test_keys_that_do_nothing_in_a_stream_are_named(keys: dict[str, Any], idle: list[str]) -> None:
    found = [key for note in remarks(recipe_from_flat(flat(keys))) if isinstance(note, Remark) for key in note.keys]
    assert found == idle


def test_the_type_of_streamed_text_is_pretrain_where_it_is_not_given() -> None:
    data = recipe_from_flat(flat(TEXT)).data
    assert [entry.type for entry in data.streamed] == ["pretrain"] and data.train_datasets == data.streamed
    assert recipe_from_flat(flat({**CHATS, "streaming": None})).data.streamed == ()
