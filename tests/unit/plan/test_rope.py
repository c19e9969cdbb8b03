"""Rotary positions and other entries of a config.json, changed as JSON: against the classes of transformers, and what
the Plan says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import Gemma3TextConfig, LlamaConfig, Phi3Config

from axo.errors import RecipeError
from axo.plan.facts import Facts, Hardware
from axo.plan.model_config import changed_config, config_faults
from axo.plan.plan import Decision, Plan
from axo.plan.resolve import resolve
from axo.plan.rope import fitting_factor, positions
from axo.recipe.model import ModelSection
from axo.recipe.recipe import Recipe, recipe_from_flat
from axo.workflows.facts import find_facts

SIZES = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SIZES, "max_position_embeddings": 2048,
         "rope_theta": 500000.0, "rope_scaling": None}  # fmt: skip
LLAMA31 = {**LLAMA, "max_position_embeddings": 131072, "rope_scaling": {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192}}  # fmt: skip
QWEN_VL = {"model_type": "qwen_vl", "text_config": {**LLAMA}, "vision_config": {"model_type": "vit"}}
GEMMA3 = {"model_type": "gemma3_text", **SIZES, "head_dim": 32, "max_position_embeddings": 2048, "rope_theta": 1e6,
          "rope_local_base_freq": 1e4, "sliding_window": 16}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0}
SCALED = {**YARN, "original_max_position_embeddings": 2048}


def recipe_of(**keys: Any) -> Recipe:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3,
            "micro_batch_size": 1, "sequence_len": 512, **keys}  # fmt: skip
    return recipe_from_flat(flat)


def planned(stored: dict[str, Any], **keys: Any) -> Plan:
    recipe = recipe_of(**keys)
    faults = [*config_faults(recipe.model, stored)]
    if faults:
        raise RecipeError(faults)
    changed = changed_config(recipe.model, stored)
    return resolve(recipe, Facts(Hardware(), changed, stored_config=None if changed is stored else stored))


def said(plan: Plan, key: str) -> list[Decision]:
    return [one for one in plan.decisions if one.key == key]


def changed(stored: dict[str, Any], **keys: Any) -> Any:
    return changed_config(ModelSection(base_model="x/y", **keys), stored)


def test_a_config_is_left_alone_where_nothing_is_asked() -> None:
    assert changed(LLAMA) is LLAMA
    assert changed(LLAMA, rope_scaling={}, overrides_of_model_config={}) is LLAMA


@pytest.mark.parametrize(
    ("config_class", "stored"), [(LlamaConfig, LLAMA), (LlamaConfig, LLAMA31), (Gemma3TextConfig, GEMMA3)]
)
@pytest.mark.parametrize(
    "scaling", [{"rope_type": "linear", "factor": 2.0}, {**YARN, "original_max_position_embeddings": 2048}]
)
def test_a_file_changed_as_json_is_what_the_changed_config_is(
    config_class: Any, stored: dict[str, Any], scaling: dict[str, Any]
) -> None:
    as_read = config_class.from_dict(dict(stored)).to_dict()
    from_read = config_class.from_dict(dict(changed(as_read, rope_scaling=scaling)))
    from_file = config_class.from_dict(json.loads(json.dumps(changed(stored, rope_scaling=scaling))))
    assert from_file.rope_parameters == from_read.rope_parameters
    assert from_file.max_position_embeddings == from_read.max_position_embeddings


@pytest.mark.parametrize(
    ("stored", "scaling", "limit"),
    [
        (LLAMA, {"rope_type": "linear", "factor": 2.5}, 5120),
        (LLAMA, YARN, 8192),
        (LLAMA, {"rope_type": "dynamic", "factor": 4.0}, 2048),
        (LLAMA, {**YARN, "original_max_position_embeddings": 1024}, 4096),
        (LLAMA31, {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, 262144),
        (LLAMA31, {**YARN, "original_max_position_embeddings": 8192}, 131072),
        (QWEN_VL, YARN, 8192),
    ],
)
def test_the_position_limit_grows_from_the_length_before_scaling(
    stored: dict[str, Any], scaling: dict[str, Any], limit: int
) -> None:
    config = changed(stored, rope_scaling=scaling)
    assert config.get("text_config", config)["max_position_embeddings"] == limit


def test_what_the_recipe_itself_says_of_the_limit_holds() -> None:
    config = changed(LLAMA, rope_scaling=YARN, overrides_of_model_config={"max_position_embeddings": 3000})
    assert config["max_position_embeddings"] == 3000


def test_entries_are_replaced_where_they_stand_and_mappings_merged() -> None:
    config = changed(
        QWEN_VL, overrides_of_model_config={"rope_theta": 3.0, "num_hidden_layers": 9, "text_config": {"x": 1}}
    )
    assert config["text_config"] == {**LLAMA, "rope_theta": 3.0, "num_hidden_layers": 9, "x": 1}
    assert config["vision_config"] == QWEN_VL["vision_config"] and "num_hidden_layers" not in config


def test_the_text_part_can_be_trained_alone() -> None:
    stored = {"model_type": "gemma3", "text_config": GEMMA3, "vision_config": {"model_type": "siglip_vision_model"}}
    assert changed(stored, cls_model_config="Gemma3TextConfig") == GEMMA3
    assert changed(stored, cls_model_config="Gemma3Config") is stored
    assert changed(stored, cls_model_config="AutoConfig") is stored


@pytest.mark.parametrize(
    ("config", "made_for", "factor"),
    [
        (LLAMA, 2048, 4.0),
        (LLAMA31, 131072, None),
        ({**LLAMA, "rope_parameters": SCALED}, 8192, None),
        ({**LLAMA, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 4096, None),
        ({**LLAMA, "rope_parameters": {"sliding_attention": {}, "full_attention": SCALED}}, 8192, None),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024, None),
        ({"model_type": "later"}, None, None),
    ],
)  # fmt: skip
def test_positions_and_the_factor_that_would_fit(config: Any, made_for: int | None, factor: float | None) -> None:
    assert (positions(config), fitting_factor(config, 8000)) == (made_for, factor)


def test_a_text_beyond_the_models_length_is_said_with_the_factor_that_fits() -> None:
    (line,) = said(planned(LLAMA, sequence_len=6000), "sequence_len")
    assert line.warning and "2048 positions" in line.why
    assert "rope_scaling: {rope_type: yarn, factor: 3.0}" in line.why
    assert said(planned(LLAMA, sequence_len=6000, rope_scaling={**YARN, "factor": 3.0}), "sequence_len") == []


def test_the_plan_says_what_is_changed_and_what_it_replaces() -> None:
    (line,) = said(planned(LLAMA, rope_scaling=YARN), "rope_scaling")
    assert line.effective == "yarn by 4, 8192 positions"
    assert "saved with it" in line.why and "adapter" not in line.why
    keys: dict[str, Any] = {"adapter": "lora", "lora_target_linear": True}
    (line,) = said(planned(LLAMA31, rope_scaling={"rope_type": "linear", "factor": 2.0}, **keys), "rope_scaling")
    assert "replaces the llama3 of the model" in line.why and "the adapter alone belongs to a base" in line.why
    (line,) = said(planned(LLAMA, overrides_of_model_config={"num_hidden_layers": 3}), "overrides_of_model_config")
    assert (line.effective, line.why) == ("num_hidden_layers: 3", "instead of num_hidden_layers: 1")
    lines = said(planned(LLAMA, overrides_of_model_config={"output_router_logits": True}), "overrides_of_model_config")
    assert [line.warning for line in lines] == [False, True]


@pytest.mark.parametrize(
    ("stored", "keys", "says"),
    [
        ({"model_type": "gpt2", "n_positions": 1024}, {"rope_scaling": YARN}, "a gpt2 has no rotary positions"),
        (LLAMA31, {"rope_scaling": YARN}, "scaled already (llama3)"),
        (Phi3Config(**SIZES).to_dict(), {"rope_scaling": YARN}, "computes longrope where a phi3 says yarn"),
        (
            LLAMA,
            {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 15, "long_factor": [1.0] * 16}},
            "short_factor has 15 numbers, expected 16",
        ),
        (
            Gemma3TextConfig.from_dict(dict(GEMMA3)).to_dict(),
            {"overrides_of_model_config": {"rope_parameters": {"global": YARN}}},
            "the model has no layers global",
        ),
        (
            {**LLAMA, "rope_parameters": {"main": {"rope_type": "default"}, "compress": {"rope_type": "default"}}},
            {"rope_scaling": YARN},
            "differ by kinds of layers: main, compress",
        ),
        (LLAMA, {"overrides_of_model_config": {"num_hiden_layers": 2}}, "did you mean 'num_hidden_layers'"),
        (LLAMA, {"cls_model_config": "MistralConfig"}, "describes a model of type 'llama'"),
        (
            LLAMA,
            {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "sequence_len": 4096, "sample_packing": True},
            "what stands beside a sample would change it",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(stored: dict[str, Any], keys: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        planned(stored, **keys)
    (finding,) = refusal.value.findings
    assert says in f"{finding.message} {finding.hint}"


def test_dynamic_positions_may_pack_texts_of_the_models_length_and_say_what_they_depend_on_beyond() -> None:
    dynamic = {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
    assert said(planned(LLAMA, sample_packing=True, **dynamic), "sequence_len") == []
    (line,) = said(planned(LLAMA, sequence_len=4096, **dynamic), "sequence_len")
    assert line.warning and "longest row" in line.why


def test_longrope_beyond_the_length_before_scaling_says_that_short_texts_get_the_long_factors_too() -> None:
    lists = {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16, "original_max_position_embeddings": 512}
    phi = {
        "model_type": "phi3",
        **SIZES,
        "max_position_embeddings": 2048,
        "rope_scaling": {"type": "longrope", **lists},
    }
    assert said(planned(phi, sequence_len=512), "sequence_len") == []
    (line,) = said(planned(phi, sequence_len=513), "sequence_len")
    assert line.warning and "longer than 512 tokens" in line.why


def test_facts_hold_the_changed_config_and_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    facts = find_facts(recipe_of(base_model=str(tmp_path), overrides_of_model_config={"num_hidden_layers": 3}))
    assert facts.model_config == {**LLAMA, "num_hidden_layers": 3} and facts.stored_config == LLAMA
    plain = find_facts(recipe_of(base_model=str(tmp_path)))
    assert plain.model_config == LLAMA and plain.stored_config is None
    with pytest.raises(RecipeError, match="did you mean 'num_hidden_layers'"):
        find_facts(recipe_of(base_model=str(tmp_path), overrides_of_model_config={"num_hidden_layer": 3}))
