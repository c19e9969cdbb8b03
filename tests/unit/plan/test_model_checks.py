"""What config.json tells before anything is loaded, against transformers' own classes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from axo.errors import RecipeError
from axo.plan.facts import Facts, Hardware
from axo.plan.model_checks import LIMITED, RECURRENT, TEXT_CLASS, WHOLE_CLASS, is_recurrent
from axo.plan.places import Place
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}


def plan_of(config: dict[str, Any] | None, places: dict[str, Place] | None = None, **keys: Any) -> Plan:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3,
            "micro_batch_size": 1, "sequence_len": 512, **keys}  # fmt: skip
    return resolve(recipe_from_flat(flat), Facts(Hardware(), config, places=places or {}))


def said(plan: Plan, key: str) -> list[str]:
    return [f"{one.effective} ({one.why})" for one in plan.decisions if one.key == key]


def refusal(config: dict[str, Any], **keys: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        plan_of(config, **keys)
    return str(caught.value)


def test_a_model_that_has_to_be_fetched_is_a_line_of_the_plan() -> None:
    place = Place("x/y", "hub", "not on this machine")
    assert said(plan_of(None, {"base_model": place}), "base_model") == ["x/y (hub) (not on this machine)"]


def test_a_sequence_longer_than_the_models_positions_is_said_and_allowed() -> None:
    assert said(plan_of(LLAMA, sequence_len=2048), "sequence_len") == []
    (line,) = said(plan_of(LLAMA, sequence_len=4096), "sequence_len")
    assert line.startswith("4096 tokens (longer than the 2048 positions that the model was made for")


def test_positions_count_with_their_scaling() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    for key in ("rope_parameters", "rope_scaling"):
        assert said(plan_of({**LLAMA, key: yarn}, sequence_len=8192), "sequence_len") == []
        assert len(said(plan_of({**LLAMA, key: yarn}, sequence_len=8193), "sequence_len")) == 1


def test_positions_of_a_table_end_where_it_does() -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 1024}
    plan_of(config, sequence_len=1024)
    assert "sequence_len: is 2048, but the model has a table of 1024 positions" in refusal(config, sequence_len=2048)
    found = refusal(config, sequence_len=512, eval_sequence_len=2048)
    assert "eval_sequence_len: is 2048, but the model has a table of 1024 positions" in found


@pytest.mark.parametrize("kind", sorted(LIMITED))
def test_models_with_a_table_of_positions_fail_beyond_it(kind: str) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[kind]()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 8}
    for name, size in sizes.items():
        setattr(config, name, size)
    config.vocab_size, config.pad_token_id = 30, 0
    own = {"intermediate_size": 16, "ffn_dim": 16, "n_inner": 16, "rotary_dim": 4, "attention_layers": ["global"],
           "word_embed_proj_dim": 16, "layers": 1}  # fmt: skip
    for name, value in own.items():
        if hasattr(config, name):
            setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config).eval()
    for length, fits in ((8, True), (9, False)):
        ids = torch.ones(1, length, dtype=torch.long)
        places = {"position_ids": torch.arange(length)[None]}
        takes = "position_ids" in inspect.signature(model.forward).parameters
        try:
            model(input_ids=ids, **(places if takes else {}))
        except (IndexError, RuntimeError):
            assert not fits
        else:
            assert fits


def test_a_class_that_the_config_does_not_name_is_refused_before_loading() -> None:
    plan_of(LLAMA, model_type="LlamaForCausalLM")
    message = refusal(LLAMA, model_type="MistralForCausalLM")
    assert "model_type: is MistralForCausalLM, but the config of the model says LlamaForCausalLM" in message


def test_of_a_model_that_also_sees_the_language_model_is_trained_and_said() -> None:
    config = {"model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"], "text_config": {}}
    (line,) = said(plan_of(config), "model_type")
    assert line.startswith("Llama4ForCausalLM (the language model alone")
    plan_of(config, model_type="Llama4ForCausalLM")
    message = refusal(config, model_type="Llama4ForConditionalGeneration")
    assert "axo trains text models, which is Llama4ForCausalLM of this model" in message


@pytest.mark.parametrize("name", ["Qwen2VLForConditionalGeneration", "T5ForConditionalGeneration"])
def test_what_is_no_causal_language_model_is_refused(name: str) -> None:
    assert f"base_model: is a {name}, which is no causal" in refusal({"model_type": "other", "architectures": [name]})


def test_the_classes_of_models_that_also_see_are_those_of_transformers() -> None:
    from transformers.models.auto import modeling_auto

    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    whole = {**modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}
    whole |= modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    both = {kind: name for kind, name in causal.items() if kind in whole}
    assert {kind: name for kind, name in both.items() if name != whole[kind]} == dict(TEXT_CLASS)
    assert {kind for kind, name in both.items() if name.endswith("ForConditionalGeneration")} == WHOLE_CLASS


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("size", [0, -1, 10**12, "big", 1.5, True])
def test_sizes_that_no_model_has_are_refused(name: str, size: Any) -> None:
    assert f"base_model: its config.json says {name}: {size!r}" in refusal({**LLAMA, name: size})


@pytest.mark.parametrize("kind", [None, 5])
def test_a_config_without_a_model_type_is_refused(kind: Any) -> None:
    assert "base_model: its config.json has no model_type" in refusal({"model_type": kind})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mamba2"},
        {"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"]},
        {"model_type": "recurrent_gemma", "block_types": ["recurrent", "recurrent", "attention"]},
        {"model_type": "jamba"},
        {"model_type": "falcon_h1"},
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
        {"model_type": "a_later_one", "layer_types": ["linear_attention"]},
        {"model_type": "qwen3_5", "text_config": {"model_type": "qwen3_5_text", "layer_types": ["linear_attention"]}},
    ],
)
def test_a_model_with_a_state_is_not_packed(config: dict[str, Any]) -> None:
    plan_of(config)
    assert "sample_packing: " in (message := refusal(config, sample_packing=True))
    assert "carries a state from token to token" in message and "set sample_packing: false" in message
    assert "eval_sample_packing: " in refusal(config, eval_sample_packing=True)


@pytest.mark.parametrize("config", [LLAMA, {"model_type": "granitemoehybrid", "layer_types": ["attention"] * 3}])
def test_a_model_that_only_attends_is_packed(config: dict[str, Any]) -> None:
    plan_of(config, sample_packing=True)


@pytest.mark.slow
def test_every_causal_model_of_transformers_that_keeps_a_state_is_known() -> None:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    kinds = {config: kind for kind, config in CONFIG_MAPPING.items()}
    stateful = {
        kinds[config]
        for config in MODEL_FOR_CAUSAL_LM_MAPPING
        if config in kinds and getattr(MODEL_FOR_CAUSAL_LM_MAPPING[config], "_is_stateful", False)
    }
    assert stateful and stateful <= RECURRENT
    assert all(is_recurrent({"model_type": kind}) for kind in stateful)
