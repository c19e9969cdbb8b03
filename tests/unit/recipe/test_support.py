"""What axo runs, what it accepts without effect, what it cannot run yet."""

from __future__ import annotations

from typing import Any

import pytest

from axo.recipe.support import assess


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("remove_unused_columns", False),
        ("dataloader_num_workers", 4),
        ("debug", True),
        ("wandb_watch", "gradients"),
        ("strict", False),
        ("tokenizer_type", "AutoTokenizer"),
        ("tokenizer_use_fast", True),
        ("gradient_checkpointing_kwargs", {"use_reentrant": True}),
        ("dataset_num_proc", 8),
        ("lora_mlp_kernel", True),
    ],
)
def test_a_key_without_effect_is_accepted_and_the_reason_is_given(key: str, value: Any) -> None:
    support = assess({key: value})
    assert support.refusals == ()
    assert list(support.idle) == [key]
    assert support.idle[key]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_init_lora_weights", False),
        ("peft_autocast_adapter_dtype", False),
        ("tokenizer_use_fast", False),
        ("dataloader_drop_last", True),
        ("tensor_parallel_size", 2),
        ("adapter", "qlora"),
        ("neftune_noise_alpha", 5),
        ("fp16", True),
        ("load_in_8bit", True),
        ("attn_implementation", "flex_attention"),
        ("optimizer", "adamw_8bit"),
        ("rl", "dpo"),
    ],
)
def test_what_would_change_the_training_is_refused(key: str, value: Any) -> None:
    assert [finding.key for finding in assess({key: value}).refusals] == [key]


def test_a_refusal_says_what_the_key_means() -> None:
    hint = assess({"lora_rank_pattern": {"q_proj": 8}}).refusals[0].hint or ""
    assert "lora_r" in hint


@pytest.mark.parametrize(("key", "value"), [("adapter", "lorra"), ("load_in_8bit", 1), ("nonsense", 1)])
def test_a_wrong_value_is_left_to_the_type_checks(key: str, value: Any) -> None:
    assert assess({key: value}).refusals == ()


def test_data_sets_are_looked_into() -> None:
    entries = [{"path": "a", "ds_type": "xml", "shards": 2, "preprocess_shards": 4}, {"temperature": 2}]
    support = assess({"datasets": entries})
    assert [finding.key for finding in support.refusals] == ["datasets.0.ds_type", "datasets.1.temperature"]
    assert list(support.idle) == ["datasets.0.preprocess_shards"]


def test_a_block_that_cannot_run_yet_is_refused_once() -> None:
    assert [finding.key for finding in assess({"trl": {"beta": 0.1, "num_generations": 4}}).refusals] == ["trl"]
