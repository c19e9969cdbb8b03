"""Other spellings of keys: rewritten with a note, left out where they are switched off, or refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from axo.recipe import renamed
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.rewrite import Rewritten, rewrite
from axo.recipe.section import alternatives


def one(key: str, value: Any) -> Rewritten:
    return rewrite({key: value})


def test_no_key_stands_in_two_tables_or_in_a_section_too() -> None:
    assert [key for key, times in Counter(renamed.known_names()).items() if times > 1] == []
    assert [key for key in renamed.known_names() if owner_of(key)] == []


def test_every_target_of_a_rewritten_key_exists_and_takes_the_value() -> None:
    assert [name for name in renamed.RENAMED.values() if owner_of(name) is None] == []
    said = [(name, value) for name, value in renamed.SWITCHES.values()]
    said += [(name, value) for values in renamed.VALUES.values() for name, value in values.items()]
    for name, value in said:
        choices = alternatives(SECTIONS[owner_of(name) or ""].model_fields[name].annotation)
        assert value in choices or type(value) in choices, (name, value)


@pytest.mark.parametrize(
    ("key", "value", "name", "chosen"),
    [
        ("flash_attention", True, "attn_implementation", "flash_attention_2"),
        ("sdp_attention", True, "attn_implementation", "sdpa"),
        ("eager_attention", True, "attn_implementation", "eager"),
        ("flex_attention", True, "attn_implementation", "flex_attention"),
        ("xformers_attention", True, "attn_implementation", "xformers"),
        ("sage_attention", True, "attn_implementation", "sage"),
        ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
        ("dataset_processes", 8, "dataset_num_proc", 8),
        ("sequence_parallel_degree", 2, "context_parallel_size", 2),
        ("noisy_embedding_alpha", 5, "neftune_noise_alpha", 5),
        ("bfloat16", True, "bf16", "full"),
        ("float32", True, "bf16", False),
    ],
)
def test_another_name_is_rewritten_with_a_note(key: str, value: Any, name: str, chosen: Any) -> None:
    rewritten = one(key, value)
    assert rewritten.flat == {name: chosen}
    assert rewritten.moved == {name: key}
    assert key in rewritten.notes[0]
    assert name in rewritten.notes[0]


@pytest.mark.parametrize(
    ("key", "name"), [("model_revision", "revision_of_model"), ("model_config", "overrides_of_model_config")]
)
def test_a_name_that_recipes_always_use_is_rewritten_without_a_note(key: str, name: str) -> None:
    rewritten = one(key, "x")
    assert (rewritten.flat, rewritten.notes, rewritten.moved) == ({name: "x"}, (), {name: key})


@pytest.mark.parametrize(("value", "offloading"), [("offload", True), ("offload_disk", "disk"), ("unsloth", True)])
def test_a_value_that_means_two_keys_becomes_both(value: str, offloading: Any) -> None:
    rewritten = one("gradient_checkpointing", value)
    assert rewritten.flat == {"gradient_checkpointing": True, "activation_offloading": offloading}
    assert "activation_offloading" in rewritten.notes[0]


def test_the_same_thing_said_twice_is_accepted() -> None:
    rewritten = rewrite({"flash_attention": True, "attn_implementation": "flash_attention_2", "eager_attention": False})
    assert rewritten.flat == {"attn_implementation": "flash_attention_2"}
    assert rewritten.findings == ()


@pytest.mark.parametrize("keys", [{"bf16": True, "bfloat16": True}, {"bfloat16": True, "bf16": "auto"}])
def test_a_switch_that_adds_nothing_to_its_key_yields(keys: dict[str, Any]) -> None:
    rewritten = rewrite(keys)
    assert (rewritten.flat, rewritten.findings) == ({"bf16": keys["bf16"]}, ())
    assert "bfloat16: true adds nothing" in rewritten.notes[0]


def test_two_spellings_that_contradict_are_refused_at_the_second() -> None:
    findings = rewrite({"bf16": True, "float32": True}).findings
    assert [(finding.key, finding.message) for finding in findings] == [("float32", "says otherwise than bf16")]


def test_the_prefix_of_fsdp_keys_is_taken_off() -> None:
    rewritten = one("fsdp_config", {"fsdp_offload_params": True, "fsdp_version": 2, "reshard_after_forward": True})
    assert rewritten.flat == {"fsdp_config": {"offload_params": True, "fsdp_version": 2, "reshard_after_forward": True}}
    assert rewritten.moved == {"fsdp_config.offload_params": "fsdp_config.fsdp_offload_params"}


def test_the_list_of_fsdp_words_becomes_keys_of_fsdp_config() -> None:
    rewritten = rewrite({"fsdp": ["full_shard", "auto_wrap"], "fsdp_config": {"fsdp_offload_params": True}})
    config = {"offload_params": True, "reshard_after_forward": True, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
    assert rewritten.flat == {"fsdp_config": config}
    assert "fsdp: full_shard, auto_wrap means fsdp_config" in rewritten.notes[-1]


OFF = ["rl", "deepspeed", "auto_find_batch_size", "xformers_attention", "fp8", "unsloth_rope"]


@pytest.mark.parametrize("value", [False, 0, 0.0, "", [], {}, "none", "false"])
@pytest.mark.parametrize("key", OFF)
def test_a_key_that_is_switched_off_is_left_out(key: str, value: Any) -> None:
    rewritten = one(key, value)
    assert (rewritten.flat, rewritten.findings, rewritten.off) == ({}, (), (key,))


@pytest.mark.parametrize(("key", "value"), [("tensor_parallel_size", 1), ("peft_autocast_adapter_dtype", True)])
def test_a_key_that_asks_for_what_happens_anyway_is_left_out(key: str, value: Any) -> None:
    assert one(key, value).off == (key,)


@pytest.mark.parametrize(("key", "value"), [("qgalore_rank", 256), ("grokfast_lamb", 2.0)])
def test_a_key_that_repeats_its_default_is_left_out(key: str, value: Any) -> None:
    assert one(key, value).off == (key,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_init_lora_weights", False),
        ("peft_autocast_adapter_dtype", False),
        ("tensor_parallel_size", 2),
        ("dense_mixer", True),
    ],
)
def test_what_would_change_the_training_stays(key: str, value: Any) -> None:
    assert one(key, value).flat == {key: value}


def test_one_is_not_true() -> None:
    assert one("tensor_parallel_size", True).flat == {"tensor_parallel_size": True}


@pytest.mark.parametrize(
    ("key", "value"), [("flash_attention", "yes please"), ("unsloth_rope", True), ("eta_min", 1e-5)]
)
def test_what_is_no_key_any_more_is_refused(key: str, value: Any) -> None:
    assert [finding.key for finding in one(key, value).findings] == [key]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("axolotl.integrations.liger.LigerPlugin", "liger_*"),
        ("axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin", "chunked_cross_entropy"),
    ],
)
def test_a_plugin_whose_work_is_done_anyway_is_left_out_with_the_reason(entry: str, words: str) -> None:
    rewritten = one("plugins", [entry])
    assert (rewritten.flat, rewritten.findings, rewritten.not_yet) == ({}, (), ())
    assert words in rewritten.idle["plugins.0"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("axolotl.integrations.kd.KDPlugin", "kd_* keys"),
        ("axolotl.integrations.spectrum.SpectrumPlugin", "spectrum_* keys"),
        ("my.own.Plugin", "loads no plugins"),
        (5, "loads no plugins"),
    ],
)
def test_every_other_plugin_is_refused_by_its_place(entry: Any, words: str) -> None:
    rewritten = one("plugins", ["axolotl.integrations.liger.LigerPlugin", entry])
    (finding,) = [*rewritten.findings, *rewritten.not_yet]
    assert finding.key == "plugins.1"
    assert words in finding.message


def test_keys_of_a_data_set_are_rewritten_too() -> None:
    entry = {"path": "a", "type": "alpaca", "trust_remote_code": False, "preprocess_shards": 4}
    rewritten = rewrite({"datasets": [entry, "no mapping"], "test_datasets": "no list"})
    kept = {"path": "a", "type": "alpaca", "preprocess_shards": 4}
    assert rewritten.flat == {"datasets": [kept, "no mapping"], "test_datasets": "no list"}
    assert rewritten.off == ("datasets.0.trust_remote_code",)


@pytest.mark.parametrize("name", ["datasets", "test_datasets"])
def test_an_old_key_of_a_data_set_is_refused_by_its_place(name: str) -> None:
    findings = one(name, [{"path": "a", "type": "alpaca", "conversation": "vicuna"}]).findings
    assert [finding.key for finding in findings] == [f"{name}.0.conversation"]
