"""Checks across keys: what they let pass. What they refuse is in tests/assets/bad_recipes."""

from __future__ import annotations

from typing import Any

import pytest

from axo.recipe.recipe import recipe_from_flat
from axo.recipe.rules import check, remarks

MINIMAL: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [{"path": "a", "type": "alpaca"}],
}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"batch_size": 8, "micro_batch_size": 2},
        {"batch_size": 8, "micro_batch_size": 2, "gradient_accumulation_steps": 4},
        {"warmup_steps": 0, "warmup_ratio": 0.0},
        {"val_set_size": 0, "test_datasets": [{"path": "b", "type": "alpaca"}], "eval_steps": 10},
        {"val_set_size": 100, "eval_strategy": "epoch"},
        {"val_set_size": 0.05, "eval_strategy": "steps", "evals_per_epoch": 4},
        {"eval_strategy": "no", "evals_per_epoch": None},
        {"evals_per_epoch": 4},
        {"save_steps": 0.25, "save_strategy": "steps"},
        {"save_steps": 10.0},
        {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_modules": "all-linear"},
        {"lora_r": None, "lora_target_linear": False, "lora_model_dir": "folder"},
        {"resume_from_checkpoint": "folder", "auto_resume_from_checkpoints": False},
        {"chat_template": "jinja", "chat_template_jinja": "{{ messages }}"},
        {"chat_template_jinja": "{{ messages }}"},
        {"chat_template": "llama3"},
        {"tokenizer_config": "hf_tokenizer", "revision_of_model": "0123456789abcdef0123456789abcdef01234567"},
    ],
)
def test_consistent_keys_pass(keys: dict[str, Any]) -> None:
    given = {key: value for key, value in keys.items() if value is not None}
    assert check(recipe_from_flat({**MINIMAL, **given})) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "chat_template", "chat_template": "chatml"},
        {"type": "chat_template", "chat_template": "jinja", "chat_template_jinja": "x"},
        {"type": "completion", "field": "text"},
        {"type": "input_output"},
        {"type": {"field_instruction": "q"}},
        {"type": "chat_template", "message_field_role": "from", "message_property_mappings": {"role": "from"}},
        {"type": "chat_template", "message_field_role": "from", "message_property_mappings": {"content": "value"}},
    ],
)
def test_consistent_data_sets_pass(entry: dict[str, Any]) -> None:
    recipe = recipe_from_flat({**MINIMAL, "datasets": [{"path": "a", **entry}]})
    assert check(recipe) == []
    assert remarks(recipe) == []


def test_a_data_set_may_leave_the_template_to_the_recipe() -> None:
    entry = {"path": "a", "type": "chat_template", "chat_template": "jinja"}
    recipe = {**MINIMAL, "datasets": [entry], "chat_template": "jinja", "chat_template_jinja": "x"}
    assert check(recipe_from_flat(recipe)) == []


def test_what_is_allowed_and_idle_is_remarked() -> None:
    entry = {"path": "a", "type": "alpaca", "field_messages": "m", "field": "text"}
    notes = remarks(recipe_from_flat({**MINIMAL, "datasets": [entry], "evals_per_epoch": 2}))
    assert len(notes) == 2
    assert "there is no evaluation data" in notes[0]
    assert notes[1] == "datasets.0: field, field_messages have no effect with type: alpaca"


def test_a_check_reports_every_data_set() -> None:
    entries = [{"path": "a", "type": "alpacca"}, {"path": "b", "type": "alpaca"}, {"path": "c", "type": "completin"}]
    findings = check(recipe_from_flat({**MINIMAL, "datasets": entries}))
    assert [(one.key, one.hint) for one in findings] == [
        ("datasets.0.type", "did you mean 'alpaca'?"),
        ("datasets.2.type", "did you mean 'completion'?"),
    ]
