"""Targets of an adapter that the model does not have, against what training itself refuses."""

from __future__ import annotations

from typing import Any

import pytest

from axo.adapters.config import lora_config
from axo.errors import Finding, RecipeError
from axo.plan.target_checks import wrong_targets
from axo.recipe.adapters import AdapterSection

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
LAYERS = "linear layers of this model: down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"


def found(targets: Any, config: dict[str, Any] | None = LLAMA, **keys: Any) -> list[Finding]:
    values = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": targets, **keys}
    return list(wrong_targets(AdapterSection(**values), config))


def test_a_name_that_no_layer_has_is_refused_with_the_nearest_and_all_there_are() -> None:
    (finding,) = found(["q_proj", "qproj"])
    assert finding.key == "lora_target_modules.1"
    assert finding.message == "'qproj' matches no module of the model that can have an adapter"
    assert finding.hint == f"did you mean 'q_proj' or 'v_proj'? {LAYERS}; or all-linear"


@pytest.mark.parametrize("name", ["all_linear", "ALL-LINEAR", "alllinear"])
@pytest.mark.parametrize("config", [LLAMA, None, {"model_type": "unheard_of"}])
def test_all_linear_is_told_however_it_is_spelt_and_whatever_the_model(name: str, config: Any) -> None:
    for targets in (name, [name]):
        (finding,) = found(targets, config)
        assert finding.hint == "did you mean 'all-linear'?"


@pytest.mark.parametrize(
    "targets",
    ["all-linear", ["all-linear"], ["q_proj", "mlp.down_proj"], r".*layers\.1\..*_proj", "qproj", r".*\.qproj", ["act"],
     ["q_pro"], ["embed_tokens"], ["layers.7.q_proj"], "q_proj"],
)  # fmt: skip
def test_a_target_matches_where_training_finds_a_module(targets: Any) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = {key: value for key, value in LLAMA.items() if key != "model_type"}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes))
    section = AdapterSection(adapter="lora", lora_r=4, lora_alpha=8, lora_target_modules=targets)
    try:
        lora_config(section, model)
        fits = True
    except RecipeError as error:
        fits = "matches no module" not in str(error)
    assert (found(targets) == []) == fits


def test_nothing_is_said_of_a_model_whose_layers_are_not_known() -> None:
    assert found(["qproj"], {"model_type": "unheard_of"}) == found(["qproj"], None) == []


def test_nothing_is_said_where_no_adapter_is_made() -> None:
    assert found(["qproj"], adapter=None) == []


@pytest.mark.parametrize("name", ["w1", "gate_proj", "block_sparse_moe.experts.0.w1"])
def test_names_of_single_experts_lead_to_the_keys_of_fused_ones(name: str) -> None:
    (finding,) = found([name], {**LLAMA, "model_type": "mixtral"})
    assert finding.hint is not None
    assert "for the experts set lora_target_parameters: [mlp.experts.gate_up_proj, " in finding.hint
