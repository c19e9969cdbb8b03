"""Axolotl's other keys: rewritten, accepted with a note, or refused."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from axo.recipe import renamed
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.rewrite import Rewritten, rewrite

KEYS = Path(__file__).resolve().parents[4] / "shared" / "axolotl" / "keys.tsv"


def keys_of_axolotl() -> list[str]:
    if not KEYS.is_file():
        pytest.skip(f"{KEYS.name} is not beside the repository")
    with KEYS.open(encoding="utf-8") as stream:
        return [row["key"] for row in csv.DictReader(stream, delimiter="\t")]


def one(key: str, value: Any) -> Rewritten:
    return rewrite({key: value})


def test_every_top_level_key_of_axolotl_is_known() -> None:
    own = set(renamed.known_names()) | {key for section in SECTIONS.values() for key in section.model_fields}
    top = {key for key in keys_of_axolotl() if not any(mark in key for mark in "[.:(")}
    assert len(top) > 300
    assert top - own == set()


def test_every_key_of_a_data_set_of_axolotl_is_known() -> None:
    from axo.recipe.data import DatasetEntry, MappingType

    entry = {*DatasetEntry.model_fields, *renamed.ENTRY_NOT_YET, *renamed.ENTRY_WITHOUT_EFFECT, *renamed.ENTRY_GONE}
    mapping = {*MappingType.model_fields, *renamed.TYPE_NOT_YET}
    inner = [
        key.split(".", 1)[1] for key in keys_of_axolotl() if key.startswith(("datasets[]", "pretraining_dataset[]"))
    ]
    assert {key for key in inner if "." not in key} - entry == set()
    assert {key.removeprefix("type.") for key in inner if "." in key} - mapping == set()


def test_no_key_stands_in_two_tables_or_in_a_section_too() -> None:
    assert [key for key, times in Counter(renamed.known_names()).items() if times > 1] == []
    assert [key for key in renamed.known_names() if owner_of(key)] == []


def test_every_target_of_a_rewritten_key_exists() -> None:
    for name in [*renamed.RENAMED.values(), *(name for name, _ in renamed.SWITCHES.values())]:
        assert owner_of(name) or name in renamed.known_names(), name


@pytest.mark.parametrize(
    ("key", "value", "name", "chosen"),
    [
        ("flash_attention", True, "attn_implementation", "flash_attention_2"),
        ("sdp_attention", True, "attn_implementation", "sdpa"),
        ("eager_attention", True, "attn_implementation", "eager"),
        ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
        ("model_revision", "main", "revision_of_model", "main"),
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


def test_the_same_thing_said_twice_is_accepted() -> None:
    rewritten = rewrite({"flash_attention": True, "attn_implementation": "flash_attention_2", "eager_attention": False})
    assert rewritten.flat == {"attn_implementation": "flash_attention_2"}
    assert rewritten.findings == ()


@pytest.mark.parametrize("value", [False, 0, 0.0, "", [], {}, "none", "false"])
@pytest.mark.parametrize("key", ["rl", "deepspeed", "group_by_length", "xformers_attention", "fp8", "unsloth_rope"])
def test_a_key_that_is_switched_off_is_accepted_with_a_note(key: str, value: Any) -> None:
    rewritten = one(key, value)
    assert (rewritten.flat, rewritten.findings) == ({}, ())
    assert key in rewritten.notes[0]


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
        ("plugins", ["axolotl.integrations.liger.LigerPlugin"]),
    ],
)
def test_a_key_without_effect_is_accepted_and_the_note_says_why(key: str, value: Any) -> None:
    rewritten = one(key, value)
    assert (rewritten.flat, rewritten.findings) == ({}, ())
    assert "no effect here: " in rewritten.notes[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_init_lora_weights", False),
        ("peft_autocast_adapter_dtype", False),
        ("tokenizer_use_fast", False),
        ("dataloader_drop_last", True),
        ("tensor_parallel_size", 2),
        ("plugins", ["axolotl.integrations.liger.LigerPlugin", "my.Plugin"]),
        ("adapter", "qlora"),
        ("noisy_embedding_alpha", 5),
        ("fp16", True),
        ("flex_attention", True),
        ("flash_attention", "yes please"),
    ],
)
def test_what_would_change_the_training_is_refused(key: str, value: Any) -> None:
    rewritten = one(key, value)
    assert [finding.key for finding in rewritten.findings] == [key]


@pytest.mark.parametrize(("key", "value"), [("tensor_parallel_size", 1), ("peft_init_lora_weights", True)])
def test_a_key_that_asks_for_what_happens_anyway_is_accepted(key: str, value: Any) -> None:
    assert one(key, value).findings == ()


def test_one_is_not_true() -> None:
    assert one("load_in_8bit", 1).flat == {"load_in_8bit": 1}
    assert one("load_in_8bit", True).findings[0].key == "load_in_8bit"


def test_keys_of_a_data_set_are_cleaned_up_too() -> None:
    entry = {"path": "a", "type": "alpaca", "trust_remote_code": False, "preprocess_shards": 4}
    rewritten = rewrite({"datasets": [entry, "no mapping"], "test_datasets": "no list"})
    assert rewritten.flat == {"datasets": [{"path": "a", "type": "alpaca"}, "no mapping"], "test_datasets": "no list"}
    assert rewritten.findings == ()
    assert any("datasets.0.preprocess_shards" in note for note in rewritten.notes)
