"""Checks across keys: what they let pass, and what they only remark. What they refuse: tests/assets/bad_recipes."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import RecipeError
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
    assert "there is no evaluation data" in str(notes[0])
    assert str(notes[1]) == "datasets.0: field, field_messages have no effect with type: alpaca"


IDLE = {
    "a prompt type": ({"type": "gpteacher", "text_column": "t", "roles": {}}, "roles, text_column", "type: gpteacher"),
    "a mapping": ({"type": {}, "field": "t", "train_on_eos": "all"}, "field, train_on_eos", "type: a mapping"),
    "made-up rows": ({"type": "_synthetic", "split": "train", "ds_type": "json"}, "ds_type, split", "type: _synthetic"),
    "messages": ({"type": "messages", "field_tools": "t", "seed": 3}, "field_tools, seed", "type: messages"),
    "code that is not asked for": (
        {"type": "alpaca", "allow_custom_code": True, "length": 4}, "allow_custom_code, length", "type: alpaca",
    ),
    "plain text": ({"type": "pretrain", "field": "t", "roles": {}}, "field, roles", "type: pretrain"),
}  # fmt: skip


@pytest.mark.parametrize("name", IDLE)
def test_keys_that_a_type_does_not_read_are_named(name: str) -> None:
    entry, keys, kind = IDLE[name]
    notes = remarks(recipe_from_flat({**MINIMAL, "datasets": [{"path": "a", **entry}]}))
    assert [str(note) for note in notes] == [f"datasets.0: {keys} have no effect with {kind}"]


def test_a_data_set_without_type_is_said_to_be_tokenised_already() -> None:
    notes = remarks(recipe_from_flat({**MINIMAL, "datasets": [{"path": "a", "field": "t"}]}))
    assert [str(note) for note in notes] == [
        "datasets.0.field has no effect without type",
        "datasets.0 has no type: its rows must be tokenised already (input_ids, attention_mask, labels)",
    ]


@pytest.mark.parametrize("kind", ["my.module", "my_module.load_rows", "my_module:to_row", "my_module"])
def test_every_key_may_be_read_by_code_of_the_recipes_own(kind: str) -> None:
    entry = {"path": "a", "type": kind, "allow_custom_code": True, "field": "t", "length": 4, "roles": {}}
    recipe = recipe_from_flat({**MINIMAL, "datasets": [entry]})
    assert (check(recipe), remarks(recipe)) == ([], [])


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"max_steps": 5, "num_epochs": 2}, "num_epochs has no effect: max_steps ends the run"),
        ({"lr_scheduler": "constant", "warmup_steps": 5}, "warmup_steps has no effect: lr_scheduler constant has no"),
        ({"lr_scheduler": "constant", "cosine_min_lr_ratio": 0.1}, "cosine_min_lr_ratio has no effect"),
        (
            {"lr_scheduler": "linear", "cosine_min_lr_ratio": 0.1},
            "cosine_min_lr_ratio has no effect: lr_scheduler is linear",
        ),
        ({"max_steps": 5, "warmup_steps": 5}, "learning_rate is never reached: max_steps (5) ends the run within"),
        ({"eval_sample_packing": True}, "eval_sample_packing has no effect without val_set_size or test_datasets"),
        (
            {"chunked_cross_entropy": False, "chunked_cross_entropy_num_chunks": 4},
            "chunked_cross_entropy_num_chunks has no effect: chunked_cross_entropy is off",
        ),
        ({"optimizer": "sgd", "adam_beta2": 0.95}, "adam_beta2 has no effect: optimizer is sgd"),
        ({"optimizer": "lion_8bit", "adam_epsilon": 1e-6}, "adam_epsilon has no effect: lion_8bit divides by no root"),
        ({"sample_packing_sequentially": True}, "sample_packing_sequentially has no effect: sample_packing is off"),
        ({"sample_packing": True, "pad_to_multiple_of": 8}, "pad_to_multiple_of has no effect: rows are filled up"),
        (
            {"sample_packing": True, "pad_to_multiple_of": 8, "val_set_size": 1},
            "pad_to_multiple_of has no effect on training",
        ),
        ({"save_strategy": "no", "save_total_limit": 2}, "save_total_limit has no effect: save_strategy is 'no'"),
        ({"eval_batch_size": 2}, "eval_batch_size has no effect without val_set_size or test_datasets"),
        ({"wandb_name": "x"}, "wandb_name has no effect without use_wandb: true or wandb_project"),
        ({"mlflow_run_name": "x"}, "mlflow_run_name has no effect without use_mlflow: true or mlflow_experiment_name"),
        ({"master_weights": "float32", "bf16": False}, "master_weights has no effect: all is float32"),
        (
            {"master_weights": "float32", "adapter": "lora", "lora_r": 8, "lora_alpha": 8, "lora_target_linear": True},
            "master_weights has no effect: adapters are float32 anyway",
        ),
        (
            {"train_on_inputs": True, "datasets": [{"path": "a", "type": "chat_template", "roles_to_train": ["user"]}]},
            "datasets.0.roles_to_train has no effect: train_on_inputs trains every role",
        ),
    ],
)
def test_each_idle_key_is_one_note(keys: dict[str, Any], note: str) -> None:
    recipe = recipe_from_flat({**MINIMAL, **keys})
    assert check(recipe) == []
    (said,) = remarks(recipe)
    assert str(said).startswith(note)


@pytest.mark.parametrize(
    "keys",
    [
        {"max_steps": 5, "warmup_steps": 4},
        {"chunked_cross_entropy": True, "chunked_cross_entropy_num_chunks": 4},
        {"lr_scheduler": "constant_with_warmup", "warmup_steps": 5},
        {"adam_beta2": 0.95},
        {"sample_packing": True, "sample_packing_sequentially": True},
        {"pad_to_multiple_of": 8},
        {"save_strategy": "epoch", "save_total_limit": 2},
        {"eval_batch_size": 2, "val_set_size": 0.1},
        {"wandb_name": "x", "wandb_project": "y"},
        {"wandb_name": "x", "use_wandb": True},
        {"master_weights": "float32"},
        {"datasets": [{"path": "a", "type": "chat_template", "roles_to_train": ["user"]}]},
    ],
)
def test_a_key_that_is_read_is_no_note(keys: dict[str, Any]) -> None:
    assert remarks(recipe_from_flat({**MINIMAL, **keys})) == []


def test_code_of_the_recipes_own_is_told_from_a_misspelt_type() -> None:
    entries = [{"path": "a", "type": "my_rewards.gsm8k_transform"}, {"path": "b", "type": "chat_templat.default"}]
    recipe = recipe_from_flat({**MINIMAL, "datasets": entries})
    own, misspelt = check(recipe)
    assert own.message == "found the text 'my_rewards.gsm8k_transform', which is no type of axo"
    assert own.hint == (
        "if my_rewards.gsm8k_transform is a Python module of yours, set allow_custom_code: true to run it"
    )
    assert (misspelt.hint or "").startswith("did you mean 'chat_template'? Or, if chat_templat.default is a Python")
    allowed = [{**entry, "allow_custom_code": True} for entry in entries]
    assert check(recipe_from_flat({**MINIMAL, "datasets": allowed})) == []


def test_a_check_reports_every_data_set() -> None:
    entries = [{"path": "a", "type": "alpacca"}, {"path": "b", "type": "alpaca"}, {"path": "c", "type": "completin"}]
    findings = check(recipe_from_flat({**MINIMAL, "datasets": entries}))
    assert [(one.key, one.hint) for one in findings] == [
        ("datasets.0.type", "did you mean 'alpaca' or 'alpaca_chat'?"),
        ("datasets.2.type", "did you mean 'completion'?"),
    ]


NOBODY = {"path": "a", "type": "chat_template", "roles_to_train": []}


@pytest.mark.parametrize("entry", [{**NOBODY, "train_on_eos": "turn"}, {**NOBODY, "train_on_eos": "none"}])
def test_an_empty_list_of_roles_is_refused_with_what_to_write(entry: dict[str, Any]) -> None:
    (finding,) = check(recipe_from_flat({**MINIMAL, "datasets": [entry]}))
    assert (finding.key, finding.message) == ("datasets.0.roles_to_train", "the list is empty: no role is trained")
    assert finding.hint is not None and "train_on_inputs: true" in finding.hint


@pytest.mark.parametrize(
    "keys",
    [
        {"datasets": [NOBODY]},  # the last answer is trained
        {"datasets": [{**NOBODY, "message_field_training": "train"}]},
        {"datasets": [{**NOBODY, "train_on_eos": "all"}]},
        {"datasets": [{**NOBODY, "train_on_eos": "last"}]},
        {"datasets": [NOBODY], "train_on_inputs": True},
        {"datasets": [{**NOBODY, "type": "alpaca"}]},
        {"datasets": [{**NOBODY, "roles_to_train": ["user"]}]},
    ],
)
def test_an_empty_list_of_roles_passes_where_something_else_is_trained(keys: dict[str, Any]) -> None:
    assert check(recipe_from_flat({**MINIMAL, **keys})) == []


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("save_steps", 'save_strategy: "no"'),
        ("saves_per_epoch", 'save_strategy: "no"'),
        ("save_total_limit", 'save_strategy: "no"'),
        ("eval_steps", 'eval_strategy: "no"'),
        ("logging_steps", "leave it out"),
        ("max_steps", "leave it out"),
    ],
)
def test_a_zero_that_axolotl_takes_for_unset_is_refused_with_what_to_write(key: str, instead: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_flat({**MINIMAL, key: 0})
    (finding,) = caught.value.findings
    assert finding.key == key
    assert instead in (finding.hint or "")
