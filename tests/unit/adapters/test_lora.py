"""LoRA against plain peft and plain transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from axo.adapters.base import trainable_parameters
from axo.adapters.lora import Lora
from axo.adapters.targets import linear_modules
from axo.adapters.tokens import check_new_tokens
from axo.errors import CheckpointError, RecipeError
from axo.recipe.adapters import AdapterSection

VOCABULARY = 61


def section(**keys: Any) -> AdapterSection:
    defaults: dict[str, Any] = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}
    if "lora_target_linear" not in keys:
        defaults["lora_target_modules"] = ["q_proj", "v_proj"]
    return AdapterSection(**(defaults | keys))


def tiny(*, tied: bool = False, dtype: torch.dtype = torch.float32, gpt2: bool = False) -> Any:
    config = (
        GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=2, n_head=2)
        if gpt2
        else LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.2,
            tie_word_embeddings=tied,
            pad_token_id=None,
        )
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def ids() -> torch.Tensor:
    return torch.randint(VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(2))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(ids(), use_cache=False).logits


def train(model: Any, *, steps: int = 3) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(ids(), labels=ids(), use_cache=False).loss.backward()
        assert all(parameter.grad is not None for parameter in trained)
        optimizer.step()


TARGETS: dict[str, dict[str, Any]] = {
    "names": {},
    "end of a path": {"lora_target_modules": ["self_attn.o_proj", "model.layers.1.mlp.up_proj"]},
    "regular expression": {"lora_target_modules": r"model\.layers\.1\..*_proj"},
    "all-linear": {"lora_target_modules": "all-linear"},
    "all-linear in a list": {"lora_target_modules": ["all-linear", "lm_head"]},
    "target_linear": {"lora_target_linear": True},
    "target_linear and more": {"lora_target_linear": True, "lora_target_modules": ["lm_head"]},
    "embeddings": {"lora_target_modules": ["q_proj", "embed_tokens"]},
    "saved modules": {"lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "rslora": {"peft_use_rslora": True, "lora_dropout": 0.3},
}


@pytest.mark.parametrize("keys", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_changes_no_bit_of_the_logits(keys: dict[str, Any], dtype: torch.dtype) -> None:
    before = logits(tiny(dtype=dtype))
    adapted = Lora(section(**keys)).apply(tiny(dtype=dtype), dtype=torch.float32)
    assert torch.equal(logits(adapted.eval()), before)
    train(adapted)
    assert not torch.equal(logits(adapted.eval()), before)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"self_attn.q_proj", "self_attn.v_proj"}),
        (
            {"lora_target_linear": True},
            {f"self_attn.{n}_proj" for n in "qkvo"} | {f"mlp.{n}_proj" for n in ("gate", "up", "down")},
        ),
        ({"lora_target_modules": r".*\.mlp\..*_proj"}, {f"mlp.{n}_proj" for n in ("gate", "up", "down")}),
    ],
)
def test_exactly_the_named_modules_get_matrices_of_rank_r(keys: dict[str, Any], expected: set[str]) -> None:
    adapted = Lora(section(**keys)).apply(tiny(), dtype=torch.float32)
    table = trainable_parameters(adapted)
    found = {row.name.split(".layers.")[1].split(".", 1)[1].split(".lora_")[0] for row in table}
    assert found == expected
    assert len(table) == 2 * 2 * len(expected)  # A and B, two layers
    assert all(min(row.shape) == 4 and row.size == row.shape[0] * row.shape[1] for row in table)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("adapter_dtype", [torch.float32, torch.bfloat16])
def test_trained_weights_have_the_asked_dtype_and_the_base_keeps_its_own(
    tied: bool, adapter_dtype: torch.dtype
) -> None:
    keys = section(lora_target_linear=True, lora_modules_to_save=["embed_tokens", "lm_head"])
    adapted = Lora(keys).apply(tiny(tied=tied, dtype=torch.bfloat16), dtype=adapter_dtype)
    assert {row.dtype for row in trainable_parameters(adapted)} == {adapter_dtype}
    frozen = [parameter for parameter in adapted.parameters() if not parameter.requires_grad]
    assert {parameter.dtype for parameter in frozen} == {torch.bfloat16}
    train(adapted.train())
    assert logits(adapted).dtype == torch.bfloat16


def test_the_scale_and_the_forward_are_those_of_plain_peft() -> None:
    keys = section(lora_r=9, lora_alpha=3, peft_use_rslora=True)
    ours = Lora(keys).apply(tiny(), dtype=torch.float32)
    config = LoraConfig(r=9, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(tiny(), config)
    train(ours.eval())
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(logits(theirs.eval()), logits(ours))


SAVED: dict[str, tuple[bool, dict[str, Any]]] = {
    "names": (False, {}),
    "all-linear": (False, {"lora_target_modules": "all-linear"}),
    "saved modules": (False, {"lora_modules_to_save": ["embed_tokens", "lm_head"]}),
    "tied, embeddings saved": (True, {"lora_modules_to_save": ["embed_tokens"]}),
    "tied, head saved": (True, {"lora_modules_to_save": ["lm_head"]}),
    "tied, both saved": (True, {"lora_modules_to_save": ["embed_tokens", "lm_head", "norm"]}),
}


@pytest.mark.parametrize(("tied", "keys"), SAVED.values(), ids=SAVED.keys())
def test_a_saved_adapter_has_the_trained_logits_in_plain_peft_and_when_loaded(
    tmp_path: Path, tied: bool, keys: dict[str, Any]
) -> None:
    adapter = Lora(section(**keys))
    adapted = adapter.apply(tiny(tied=tied), dtype=torch.float32)
    train(adapted)
    adapted.eval()
    adapter.save(adapted, tmp_path)
    trained = logits(adapted)
    plain = PeftModel.from_pretrained(tiny(tied=tied), str(tmp_path)).eval()
    assert torch.equal(logits(plain), trained)
    loaded = adapter.load(tiny(tied=tied), tmp_path)
    assert torch.equal(logits(loaded), trained)
    assert trainable_parameters(loaded) == []
    merged = plain.merge_and_unload()
    torch.testing.assert_close(logits(merged), trained, atol=1e-5, rtol=1e-5)
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("saved", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]])
def test_tied_embeddings_are_trained_as_one_tensor_and_saved_under_both_names(tmp_path: Path, saved: list[str]) -> None:
    adapter = Lora(section(lora_modules_to_save=saved))
    adapted = adapter.apply(tiny(tied=True), dtype=torch.float32)
    train(adapted)
    head, embeddings = adapted.get_output_embeddings(), adapted.get_input_embeddings()
    assert head.modules_to_save["default"].weight is embeddings.modules_to_save["default"].weight
    adapter.save(adapted, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    stored = tensors["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(stored, embeddings.modules_to_save["default"].weight)
    assert torch.equal(stored, tensors["base_model.model.lm_head.weight"])
    assert not torch.equal(stored, embeddings.original_module.weight)


def test_a_loaded_adapter_keeps_the_numbers_it_was_saved_with(tmp_path: Path) -> None:
    adapter = Lora(section(lora_modules_to_save=["embed_tokens", "lm_head"]))
    adapted = adapter.apply(tiny(dtype=torch.bfloat16), dtype=torch.float32)
    train(adapted)
    adapter.save(adapted.eval(), tmp_path)
    loaded = adapter.load(tiny(dtype=torch.bfloat16), tmp_path)
    assert torch.equal(logits(loaded), logits(adapted))
    assert loaded.get_input_embeddings().modules_to_save["default"].weight.dtype == torch.float32


def test_the_saved_config_names_the_base_model_and_the_recipe_s_targets(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny().save_pretrained(base)
    adapter = Lora(section(lora_alpha=8, lora_dropout=0.25))
    adapted = adapter.apply(AutoModelForCausalLM.from_pretrained(base), dtype=torch.float32)
    adapter.save(adapted, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert config["task_type"] == "CAUSAL_LM"
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.25)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_layers_that_store_their_weights_the_other_way_round_are_adapted_too(tmp_path: Path) -> None:
    before = logits(tiny(gpt2=True))
    adapter = Lora(section(lora_target_modules=["c_attn", "mlp.c_proj"]))
    adapted = adapter.apply(tiny(gpt2=True), dtype=torch.float32)
    assert torch.equal(logits(adapted.eval()), before)
    train(adapted)
    adapter.save(adapted.eval(), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["fan_in_fan_out"] is True
    trained = logits(adapted)
    assert torch.equal(logits(PeftModel.from_pretrained(tiny(gpt2=True), str(tmp_path)).eval()), trained)


def findings(keys: dict[str, Any], model: Any | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Lora(section(**keys)).apply(tiny() if model is None else model, dtype=torch.float32)
    return [str(finding) for finding in caught.value.findings]


def test_every_target_that_matches_nothing_is_refused_with_the_names_that_exist() -> None:
    first, second = findings({"lora_target_modules": ["q_proj", "c_attn", "query"]})
    assert "lora_target_modules: 'c_attn' matches no module" in first
    assert "'query' matches no module" in second
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert name in first
    assert len(findings({"lora_target_modules": r"q_proj"})) == 1  # a regular expression is for the whole name


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"lora_target_modules": ["mlp"]}, "no linear layer"),
        ({"lora_target_modules": "*_proj"}, "no regular expression"),
        ({"lora_target_modules": []}, "names no module"),
        ({"lora_modules_to_save": ["embed"]}, "'embed' matches no module"),
        ({"lora_modules_to_save": ["q_proj"]}, "in full and have an adapter too"),
        ({"lora_r": None}, "lora_r: is not set"),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused(keys: dict[str, Any], said: str) -> None:
    assert said in findings(keys)[0]


@pytest.mark.parametrize("name", ["embed_tokens", "lm_head"])
def test_low_rank_matrices_on_a_tied_tensor_are_refused(name: str) -> None:
    assert "share one tensor" in findings({"lora_target_modules": ["q_proj", name]}, tiny(tied=True))[0]


def test_linear_modules_are_all_but_the_head() -> None:
    names = linear_modules(tiny())
    assert len(names) == 14
    assert "lm_head" not in names


@pytest.mark.parametrize(
    ("saved", "tied", "refused"),
    [
        (None, False, "[embed_tokens, lm_head]"),
        (["embed_tokens"], False, "[embed_tokens, lm_head]"),
        (["embed_tokens", "lm_head"], False, None),
        (["model.embed_tokens", "lm_head"], False, None),
        (None, True, "[embed_tokens]"),
        (["embed_tokens"], True, None),
        (["lm_head"], True, None),
    ],
)
def test_new_tokens_need_trained_embeddings(saved: list[str] | None, tied: bool, refused: str | None) -> None:
    keys = section(lora_modules_to_save=saved)
    check_new_tokens(keys, new=[], tied=tied)
    check_new_tokens(AdapterSection(), new=[7], tied=tied)
    if refused is None:
        check_new_tokens(keys, new=[7], tied=tied)
        return
    with pytest.raises(RecipeError, match="lora_modules_to_save") as caught:
        check_new_tokens(keys, new=[7], tied=tied)
    assert refused in str(caught.value)


def test_a_missing_damaged_or_foreign_adapter_is_named(tmp_path: Path) -> None:
    adapter = Lora(section())
    with pytest.raises(CheckpointError, match="no whole adapter in"):
        adapter.load(tiny(), tmp_path / "nowhere")
    adapter.save(adapter.apply(tiny(), dtype=torch.float32), tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    first = sorted(tensors)[0]
    save_file({name: x for name, x in tensors.items() if name != first}, weights)
    with pytest.raises(CheckpointError, match="is missing"):
        adapter.load(tiny(), tmp_path)
    save_file({**tensors, first: torch.zeros(3, 3)}, weights)
    with pytest.raises(CheckpointError, match="does not fit"):
        adapter.load(tiny(), tmp_path)
    weights.write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="no whole adapter in"):
        adapter.load(tiny(), tmp_path)
    with pytest.raises(CheckpointError):
        adapter.load(tiny(gpt2=True), tmp_path)
