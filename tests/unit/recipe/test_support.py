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
        ("lora_qkv_kernel", True),
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
        ("peft_init_lora_weights", "eva"),
        ("peft_layer_replication", [[0, 4], [2, 6]]),
        ("peft_autocast_adapter_dtype", False),
        ("tokenizer_use_fast", False),
        ("dataloader_drop_last", True),
        ("tensor_parallel_size", 2),
        ("adapter", "llama-adapter"),
        ("use_eaft", True),
        ("float16", True),
        ("use_onebitllms", True),
        ("attn_implementation", "sage"),
        ("optimizer", "galore_adamw"),
        ("rl", "dpo"),
    ],
)
def test_what_would_change_the_training_is_refused(key: str, value: Any) -> None:
    assert [finding.key for finding in assess({key: value}).refusals] == [key]


@pytest.mark.parametrize("name", ["sage", "fp8", "kernels-community/vllm-flash-attn3", "owner/kernels@main"])
def test_attention_that_stays_out_says_why_and_what_runs(name: str) -> None:
    (refusal,) = assess({"attn_implementation": name}).refusals
    assert "no backward pass" in refusal.message and "no kernels from the hub" in refusal.message
    assert "sdpa_varlen" in (refusal.hint or "")


def test_a_refusal_says_what_the_key_means() -> None:
    hint = assess({"peft_layer_replication": [[0, 4]]}).refusals[0].hint or ""
    assert "cannot be merged" in hint


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
