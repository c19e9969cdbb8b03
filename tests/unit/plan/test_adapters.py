"""What the Plan says about adapters, and names that are refused before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft.utils import transformers_weight_conversion as peft_moe

from axo.errors import Finding, RecipeError
from axo.plan.adapters import plan_adapters
from axo.plan.continued import check_continued, read_saved
from axo.plan.experts import EXPERT_PARAMETERS, REMAPPED, rewritten
from axo.plan.facts import Facts, Hardware
from axo.plan.plan import Decision
from axo.plan.trainable_table import Row, plain_name, table
from axo.recipe.recipe import recipe_from_flat

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
QWEN3_MOE = {**LLAMA, "model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 8, "head_dim": 4}
LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": ["q_proj"]}


def decisions(config: dict[str, Any] | None = LLAMA, **keys: Any) -> list[Decision]:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **keys}
    found: list[Decision] = []
    plan_adapters(recipe_from_flat(flat), Facts(Hardware(cpu_count=1), config), found)
    return found


def findings(config: dict[str, Any] | None = LLAMA, **keys: Any) -> list[Finding]:
    with pytest.raises(RecipeError) as caught:
        decisions(config, **keys)
    return list(caught.value.findings)


def test_the_types_with_fused_experts_are_those_of_peft() -> None:
    base = peft_moe._MODEL_TO_CONVERSION_PATTERN
    expected = {
        kind: frozenset(peft_moe._MOE_TARGET_MODULE_MAPPING[family])
        for kind, family in base.items()
        if peft_moe._MOE_FUSED_TARGETS.get(family) and kind == kind.lower()  # the others are names of classes
    }
    assert dict(REMAPPED) == expected


def test_names_that_peft_rewrites_are_told_by_their_ends() -> None:
    names = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.gate"]
    assert rewritten(names, "qwen3_moe") == sorted(names[1:])
    assert rewritten(names, "mixtral") == names[2:]
    assert rewritten(names, "llama") == rewritten(names, None) == []


def test_all_linear_beside_fused_experts_says_what_it_leaves_out() -> None:
    (said,) = decisions(QWEN3_MOE, **{**LORA, "lora_target_modules": "all-linear"})
    assert said.effective == "linear layers outside the experts" and ", ".join(EXPERT_PARAMETERS) in said.why
    keys = {**LORA, "lora_target_linear": True, "lora_target_parameters": list(EXPERT_PARAMETERS)}
    (said,) = decisions(QWEN3_MOE, **keys)
    assert said.key == "lora_target_linear" and "would train" not in said.why
    assert decisions(QWEN3_MOE, **LORA) == decisions(LLAMA, **{**LORA, "lora_target_linear": True}) == []


@pytest.mark.parametrize(
    ("keys", "effective"),
    [
        ({**LORA, "peft_init_lora_weights": "pissa_niter_4"}, "pissa_niter_4, saved as a plain adapter"),
        ({**LORA, "peft_init_lora_weights": False}, "both matrices random"),
        ({**LORA, "lora_model_dir": "there"}, "training goes on from this adapter"),
        ({"neftune_noise_alpha": 5}, "noise of 5 / sqrt(tokens of the sample x width)"),
        ({"unfrozen_parameters": ["lm_head"]}, "only these are trained"),
        ({"resize_token_embeddings_to_32x": True}, "where new tokens need rows, up to the next multiple of 32"),
        ({**LORA, "added_tokens_overrides": {7: "<a>"}}, "new texts, rows as in the base"),
    ],
)
def test_what_a_key_does_is_said(keys: dict[str, Any], effective: str) -> None:
    (said,) = decisions(**keys)
    assert said.effective == effective and said.key in keys
    assert said.warning == (said.key == "added_tokens_overrides")


def test_overridden_tokens_whose_rows_are_trained_need_no_word() -> None:
    keys = {**LORA, "added_tokens_overrides": {7: "<a>"}, "peft_trainable_token_indices": [7]}
    assert decisions(**keys) == decisions(added_tokens_overrides={7: "<a>"}) == []


@pytest.mark.parametrize(
    ("config", "keys", "at", "said"),
    [
        (LLAMA, {**LORA, "lora_rank_pattern": {"k_proj": 2}}, "lora_rank_pattern.k_proj", "matches no target"),
        (LLAMA, {**LORA, "lora_alpha_pattern": {"q_proj(": 2}}, "lora_alpha_pattern.q_proj(", "regular expression"),
        (LLAMA, {**LORA, "peft_layers_to_transform": [0, 2]}, "peft_layers_to_transform", "layers 2, and the targets"),
        (LLAMA, {**LORA, "lora_target_parameters": ["experts"]}, "lora_target_parameters", "matches no parameter"),
        (QWEN3_MOE, {**LORA, "lora_target_parameters": "experts.w1"}, "lora_target_parameters", "matches no parameter"),
        (LLAMA, {"unfrozen_parameters": ["lm_head", "head"]}, "unfrozen_parameters.1", "matches no parameter"),
        (LLAMA, {"unfrozen_parameters": ["lm_head.weight[40:]"]}, "unfrozen_parameters", "has 40"),
        (LLAMA, {"unfrozen_parameters": ["model.("]}, "unfrozen_parameters.0", "regular expression"),
    ],
)
def test_names_that_the_model_does_not_have_are_refused_from_its_config(
    config: dict[str, Any], keys: dict[str, Any], at: str, said: str
) -> None:
    (finding,) = findings(config, **keys)
    assert finding.key == at and said in finding.message
    if "regular" not in said:
        assert decisions(None, **keys) is not None and decisions({"model_type": "unheard_of"}, **keys) is not None


def test_the_names_of_a_model_with_experts_are_in_the_hint() -> None:
    (finding,) = findings(QWEN3_MOE, **{**LORA, "lora_target_parameters": ["experts"]})
    assert finding.hint == "parameters with experts: mlp.experts.down_proj, mlp.experts.gate_up_proj"


def test_names_that_fit_are_not_refused() -> None:
    keys = {"lora_target_parameters": list(EXPERT_PARAMETERS), "lora_rank_pattern": {"down_proj": 2}}
    assert decisions(QWEN3_MOE, **LORA, **keys, peft_layers_to_transform=[1]) == []
    assert len(decisions(unfrozen_parameters=["model.layers.1", "lm_head.weight$[39]"])) == 1


def test_the_table_puts_equal_layers_on_one_line() -> None:
    rows = [Row(f"model.layers.{n}.q.{part}", shape, "float32") for n in range(4) for part, shape in
            (("lora_A", (2, 8)), ("lora_B", (8, 2)))]  # fmt: skip
    rows += [Row("model.layers.7.q.lora_A", (2, 8), "float32"), Row("model.layers.9.q.lora_A", (4, 8), "float32")]
    rows += [Row("lm_head.weight", (9, 8), "bfloat16")]
    rows += [Row(f"h.{n}.experts.{e}.w.weight", (3,), "float32") for n in range(2) for e in (0, 1, 2, 5)]
    assert table(rows) == [
        "model.layers.{0-3,7}.q.lora_A (2, 8) float32 x5",
        "model.layers.{0-3}.q.lora_B (8, 2) float32 x4",
        "model.layers.9.q.lora_A (4, 8) float32",
        "lm_head.weight (9, 8) bfloat16",
        "h.{0-1}.experts.{0-2,5}.w.weight (3) float32 x8",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base_model.model.model.layers.0.q_proj.lora_A.default.weight", "model.layers.0.q_proj.lora_A"),
        ("base_model.model.wte.lora_embedding_A.default", "wte.lora_embedding_A"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.modules_to_save.weight"),
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_names_are_the_models_own(name: str, expected: str) -> None:
    assert plain_name(name) == expected


SAVED = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": False, "use_dora": False, "rank_pattern": {},
         "alpha_pattern": {}, "init_lora_weights": True}  # fmt: skip


@pytest.mark.parametrize(
    ("saved", "at"),
    [
        ({}, []),
        ({"r": 8}, ["lora_r"]),
        ({"lora_alpha": 16.0, "use_dora": True}, ["lora_alpha", "peft_use_dora"]),
        ({"alpha_pattern": {"q_proj": 3}}, ["lora_alpha_pattern"]),
        ({"init_lora_weights": "pissa"}, ["lora_model_dir"]),
        ({"peft_type": "IA3"}, ["lora_model_dir"]),
        ({"init_lora_weights": ["pissa"]}, ["lora_model_dir"]),
    ],
)
def test_a_saved_adapter_is_the_one_that_the_recipe_describes(saved: dict[str, Any], at: list[str]) -> None:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **LORA}
    section = recipe_from_flat({**flat, "lora_model_dir": "there"}).adapters
    if not at:
        check_continued(section, {**SAVED, **saved})
        return
    with pytest.raises(RecipeError) as caught:
        check_continued(section, {**SAVED, **saved})
    assert [finding.key for finding in caught.value.findings] == at
    assert all(finding.hint for finding in caught.value.findings)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_without_a_whole_adapter_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(RecipeError, match="no whole adapter"):
        read_saved(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(SAVED))
    (tmp_path / "adapter_model.safetensors").touch()
    assert read_saved(tmp_path) == SAVED


@pytest.mark.parametrize(
    ("saved", "same"),
    [([5, 6], True), ({"embed_tokens": [5, 6]}, True), ([6, 5], False), ([7, 8], False), (None, False)],
)
def test_trained_rows_go_on_as_those_of_the_same_tokens(saved: Any, same: bool) -> None:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3, **LORA}
    keys = {"lora_model_dir": "there", "peft_trainable_token_indices": [5, 6]}
    section = recipe_from_flat({**flat, **keys}).adapters
    there = {**SAVED, "trainable_token_indices": saved}
    if same:
        check_continued(section, there)
        return
    with pytest.raises(RecipeError) as caught:
        check_continued(section, there)
    assert [finding.key for finding in caught.value.findings] == ["peft_trainable_token_indices"]
