"""The JSON schema and the reference page, against a validator of its own and against the recipes that axo reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from axo.recipe.recipe import SECTIONS
from axo.recipe.reference import one_key, reference
from axo.recipe.renamed import RENAMED, SWITCHES
from axo.recipe.schema import json_schema

ROOT = Path(__file__).resolve().parents[3]
BAD = ROOT / "tests" / "assets" / "bad_recipes"
SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
GOOD: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [{"path": "a.jsonl", "type": "alpaca"}],
}


def faults(**keys: Any) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors({**GOOD, **keys})]


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_follows_the_schema_that_its_first_line_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    schema = json.loads((path.parent / named.group(1)).read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(text))) == []


def test_the_shipped_schema_and_the_reference_page_are_those_of_the_source() -> None:
    shipped = json.loads((ROOT / "recipes" / "recipe.schema.json").read_text(encoding="utf-8"))
    assert shipped == SCHEMA, "run make docs"
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == reference(), "run make docs"


@pytest.mark.parametrize(
    "keys",
    [
        {"sample_packing": None},
        {"eval_strategy": False},
        {"eval_strategy": "no"},
        {"save_strategy": "epoch"},
        {"bf16": "auto"},
        {"bf16": True},
        {"flash_attention": True},
        {"evaluation_strategy": "steps"},
        {"model_revision": "main"},
        {"model_config": {"rope_scaling": {"type": "linear"}}},
        {"gradient_checkpointing": "offload"},
        {"unsloth_rope": None},
        {"val_set_size": 0.05},
        {"val_set_size": 100},
        {"lora_target_modules": ["q_proj", "v_proj"]},
        {"lora_target_modules": "all-linear"},
        {"datasets": [{"path": "a", "type": {"field_instruction": "q", "field_output": "a"}}]},
        {"datasets": [{"path": "a", "type": "chat_template", "roles": {"user": ["human"]}}]},
        {"fsdp_config": {"fsdp_offload_params": True, "reshard_after_forward": True}},
        {"special_tokens": {"pad_token": "<|pad|>"}},
    ],
)
def test_what_recipes_write_is_allowed(keys: dict[str, Any]) -> None:
    assert faults(**keys) == []


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"leanring_rate": 1}, "$"),
        ({"sequence_len": 0}, "$.sequence_len"),
        ({"sequence_len": "long"}, "$.sequence_len"),
        ({"lora_dropout": 1.5}, "$.lora_dropout"),
        ({"optimizer": "adamw_trch"}, "$.optimizer"),
        ({"sample_packing": 1}, "$.sample_packing"),
        ({"datasets": []}, "$.datasets"),
        ({"datasets": [{"path": "a", "type": "alpaca", "feild": "x"}]}, "$.datasets"),
        ({"datasets": [{"type": "alpaca"}]}, "$.datasets"),
        ({"special_tokens": {"pad": "x"}}, "$.special_tokens"),
        ({"fsdp_config": {"fsdp_ofload_params": True}}, "$.fsdp_config"),
        ({"trl": {"num_generation": 4}}, "$.trl"),
        ({"unsloth_rope": True}, "$.unsloth_rope"),
        ({"flash_attention": "yes please"}, "$.flash_attention"),
    ],
)
def test_what_is_wrong_is_underlined_at_its_key(keys: dict[str, Any], path: str) -> None:
    assert faults(**keys) == [path]


def test_required_keys_are_required() -> None:
    assert [error.message for error in VALIDATOR.iter_errors({"datasets": GOOD["datasets"]})] == [
        "'base_model' is a required property",
        "'learning_rate' is a required property",
    ]
    assert not VALIDATOR.is_valid({"base_model": "m", "learning_rate": 1})


@pytest.mark.parametrize("stem", ["wrong_types", "out_of_range", "unknown_keys", "misspelt_words", "missing_keys"])
def test_a_recipe_that_its_types_refuse_is_refused_by_the_schema_too(stem: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load((BAD / f"{stem}.yaml").read_text(encoding="utf-8")))


def test_every_key_is_in_the_schema_with_its_meaning() -> None:
    keys = {key for section in SECTIONS.values() for key in section.model_fields}
    properties = SCHEMA["properties"]
    assert keys | {*RENAMED} | {*SWITCHES} <= set(properties)
    assert [key for key in keys if len(properties[key]["description"]) < 15] == []
    assert properties["lora_r"]["description"] == "Rank of the low-rank matrices."
    assert properties["rl"]["description"].endswith("Not supported yet.")


def test_one_key_can_be_asked_for() -> None:
    assert (one_key("lora_r") or "").splitlines() == [
        "lora_r: a whole number of at least 1, default: unset",
        "  Rank of the low-rank matrices.",
    ]
    assert "keys inside: path, type" in (one_key("datasets") or "")
    assert (one_key("datasets.type.field_output") or "").startswith("datasets.type.field_output: text, default: output")
    assert one_key("lora_rr") is None
    assert one_key("datasets.nothing") is None
    assert one_key("lora_r.x") is None


def test_the_reference_lists_every_key_once_in_its_section() -> None:
    page = reference()
    for section in SECTIONS.values():
        for key in section.model_fields:
            assert f"\n| `{key}` |" in page
    assert "`flash_attention: true` | `attn_implementation: flash_attention_2`" in page
    assert "**required**" in page
