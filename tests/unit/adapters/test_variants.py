"""Variants of LoRA against plain peft configured by hand on the same model: names, shapes, logits, losses, files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen3MoeConfig

from axo.adapters.base import trainable_parameters
from axo.adapters.lora import Lora
from axo.errors import RecipeError
from tests.unit.adapters.test_lora import VOCABULARY, ids, logits, section, tiny, train

LAYERS = [f"model.layers.1.self_attn.{name}_proj" for name in "qv"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def moe(kind: str) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.2, "head_dim": 8,
    }  # fmt: skip
    config = (
        MixtralConfig(num_local_experts=4, **sizes)
        if kind == "mixtral"
        else Qwen3MoeConfig(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, **sizes)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def model(kind: str, dtype: torch.dtype = torch.float32) -> Any:
    if kind in ("mixtral", "qwen3_moe"):
        return moe(kind).to(dtype)
    return tiny(tied=kind == "tied", gpt2=kind == "gpt2", dtype=dtype)


# Name -> model, the recipe's keys, and what somebody would tell peft for the same.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dora": ("llama", {"peft_use_dora": True}, {"use_dora": True}),
    "dora, rslora": ("llama", {"peft_use_dora": True, "peft_use_rslora": True}, {"use_dora": True, "use_rslora": True}),
    "dora, embeddings": ("llama", {"peft_use_dora": True, "lora_target_modules": ["q_proj", "embed_tokens"]},
                         {"use_dora": True, "target_modules": ["q_proj", "embed_tokens"]}),
    "dora, gpt2": ("gpt2", {"peft_use_dora": True, "lora_target_modules": ["c_attn"]},
                   {"use_dora": True, "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "gaussian": ("llama", {"peft_init_lora_weights": "gaussian"}, {"init_lora_weights": "gaussian"}),
    "orthogonal": ("llama", {"peft_init_lora_weights": "orthogonal"}, {"init_lora_weights": "orthogonal"}),
    "random": ("llama", {"peft_init_lora_weights": False}, {"init_lora_weights": False}),
    "pissa": ("llama", {"peft_init_lora_weights": "pissa"}, {"init_lora_weights": "pissa"}),
    "pissa by 4 iterations": ("llama", {"peft_init_lora_weights": "pissa_niter_4"},
                              {"init_lora_weights": "pissa_niter_4"}),
    "pissa, gpt2": ("gpt2", {"peft_init_lora_weights": "pissa", "lora_target_modules": ["c_attn"]},
                    {"init_lora_weights": "pissa", "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "olora": ("llama", {"peft_init_lora_weights": "olora"}, {"init_lora_weights": "olora"}),
    "patterns": ("llama", {"lora_rank_pattern": {"layers.1.self_attn.q_proj": 2, "v_proj": 3},
                           "lora_alpha_pattern": {r"layers\.0\..*": 3}},
                 {"rank_pattern": {"layers.1.self_attn.q_proj": 2, "v_proj": 3},
                  "alpha_pattern": {r"layers\.0\..*": 3}}),
    "pissa, patterns, rslora": (
        "llama", {"peft_init_lora_weights": "pissa", "peft_use_rslora": True, "lora_rank_pattern": {"v_proj": 2},
                  "lora_alpha_pattern": {"q_proj": 3}},
        {"init_lora_weights": "pissa", "use_rslora": True, "rank_pattern": {"v_proj": 2},
         "alpha_pattern": {"q_proj": 3}}),
    "layers": ("llama", {"peft_layers_to_transform": [1]}, {"layers_to_transform": [1]}),
    "layers by pattern": ("gpt2", {"peft_layers_to_transform": [0], "peft_layers_pattern": ["h"],
                                   "lora_target_modules": ["c_attn"]},
                          {"layers_to_transform": [0], "layers_pattern": ["h"], "target_modules": ["c_attn"],
                           "fan_in_fan_out": True}),
    "tokens": ("llama", {"peft_trainable_token_indices": [3, 60]}, {"trainable_token_indices": [3, 60]}),
    "tokens, tied": ("tied", {"peft_trainable_token_indices": [3, 60]}, {"trainable_token_indices": [3, 60]}),
    "tokens of both ends": (
        "llama", {"peft_trainable_token_indices": {"embed_tokens": [3], "lm_head": [3, 5]}},
        {"trainable_token_indices": {"embed_tokens": [3], "lm_head": [3, 5]}}),
    "experts, mixtral": ("mixtral", {"lora_target_parameters": EXPERTS}, {"target_parameters": EXPERTS}),
    "experts, qwen3": ("qwen3_moe", {"lora_target_parameters": EXPERTS[::-1], "lora_rank_pattern": {"down_proj": 2}},
                       {"target_parameters": EXPERTS, "rank_pattern": {"down_proj": 2}}),
    "experts alone": ("qwen3_moe", {"lora_target_parameters": EXPERTS[0], "lora_target_modules": None},
                      {"target_parameters": EXPERTS[:1], "target_modules": []}),
    "router": ("qwen3_moe", {"lora_target_parameters": ["mlp.gate.weight"]},
               {"target_parameters": ["mlp.gate.weight"]}),
}  # fmt: skip
OF_BASE = [name for name in CASES if "pissa" in name or "olora" in name]
APPROXIMATE = {*OF_BASE, "orthogonal"}


def ours(name: str, *, dtype: torch.dtype = torch.float32) -> tuple[Lora, Any]:
    kind, keys, _ = CASES[name]
    adapter = Lora(section(**keys))
    torch.manual_seed(3)
    return adapter, adapter.apply(model(kind, dtype), dtype=torch.float32)


def theirs(name: str) -> Any:
    kind, _, told = CASES[name]
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
                           **told})  # fmt: skip
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model(kind), config)


def losses(adapted: Any, *, steps: int = 3) -> list[float]:
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.2)
    found: list[float] = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = adapted(ids(), labels=ids(), use_cache=False).loss
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("name", CASES)
def test_names_values_and_losses_are_those_of_plain_peft(name: str) -> None:
    _, mine = ours(name)
    plain = theirs(name)
    expected = {key: value for key, value in plain.named_parameters() if value.requires_grad}
    found = {key: value for key, value in mine.named_parameters() if value.requires_grad}
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}
    assert torch.equal(logits(mine.eval()), logits(plain.eval()))
    assert losses(mine) == losses(plain)


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_adapter_leaves_the_logits_as_they_are(name: str) -> None:
    kind, keys, _ = CASES[name]
    before = logits(model(kind))
    difference = (logits(ours(name)[1].eval()) - before).abs().max()
    if keys.get("peft_init_lora_weights") is False:
        assert difference > 0.1
    else:
        assert difference <= (1e-5 if name in APPROXIMATE else 0)


@pytest.mark.parametrize("name", ["dora", "dora, rslora", "dora, embeddings", "dora, gpt2", "tokens, tied"])
def test_a_fresh_adapter_in_float32_leaves_a_bfloat16_model_as_it_is(name: str) -> None:
    before = logits(model(CASES[name][0], torch.bfloat16))
    _, adapted = ours(name, dtype=torch.bfloat16)
    assert {row.dtype for row in trainable_parameters(adapted)} == {torch.float32}
    assert torch.equal(logits(adapted.eval()), before)


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_gives_the_trained_logits_in_plain_peft_on_the_unchanged_base(tmp_path: Path, name: str) -> None:
    kind = CASES[name][0]
    adapter, adapted = ours(name)
    train(adapted)
    trained = logits(adapted.eval())
    adapter.save(adapted, tmp_path)
    plain = PeftModel.from_pretrained(model(kind), str(tmp_path)).eval()
    close = {"atol": 2e-5 if name in OF_BASE else 0, "rtol": 0}
    torch.testing.assert_close(logits(plain), trained, **close)
    torch.testing.assert_close(logits(adapter.load(model(kind), tmp_path)), trained, **close)
    torch.testing.assert_close(logits(plain.merge_and_unload()), trained, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", OF_BASE)
def test_an_adapter_out_of_the_weights_is_saved_as_a_plain_one_of_twice_the_rank(tmp_path: Path, name: str) -> None:
    adapter, adapted = ours(name)
    train(adapted)
    adapter.save(adapted, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    shapes = {key.split(".", 6)[-1]: tuple(value.shape) for key, value in
              load_file(tmp_path / "adapter_model.safetensors").items()}  # fmt: skip
    ranks = {min(shape) for shape in shapes.values()}
    assert ranks == ({8, 4} if "patterns" in name else {8})


@pytest.mark.parametrize("name", ["dora", "pissa", "tokens, tied", "experts, mixtral"])
def test_going_on_from_a_saved_adapter_begins_with_its_values(tmp_path: Path, name: str) -> None:
    kind, keys, _ = CASES[name]
    adapter, adapted = ours(name)
    train(adapted)
    adapter.save(adapted, tmp_path)
    if name == "pissa":
        keys = {"lora_r": 8, "lora_alpha": 16}
    again = Lora(section(**keys, lora_model_dir=str(tmp_path))).apply(model(kind), dtype=torch.float32)
    torch.testing.assert_close(
        logits(again.eval()), logits(adapted.eval()), atol=2e-5 if name == "pissa" else 0, rtol=0
    )
    assert len(trainable_parameters(again)) == len(trainable_parameters(adapted))
    train(again)


@pytest.mark.parametrize("name", ["dora", "pissa", "tokens, tied", "experts, mixtral", "experts, qwen3", "router"])
def test_recomputation_gives_the_same_gradients_and_reaches_all_that_is_trained(name: str) -> None:
    def gradients(*, recompute: bool) -> dict[str, torch.Tensor]:
        _, adapted = ours(name)
        if recompute:
            adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        losses(adapted.train(), steps=1)  # B is no longer zero, so that A is reached too
        adapted.zero_grad()
        adapted(ids(), labels=ids(), use_cache=False).loss.backward()
        return {key: value.grad for key, value in adapted.named_parameters() if value.requires_grad}

    plain, recomputed = gradients(recompute=False), gradients(recompute=True)
    for key, gradient in plain.items():
        torch.testing.assert_close(recomputed[key], gradient, atol=1e-6, rtol=1e-5)
        assert gradient.any(), key


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_all_linear_layers_of_a_model_with_fused_experts_are_those_of_attention(tmp_path: Path, kind: str) -> None:
    for keys in ({"lora_target_modules": "all-linear"}, {"lora_target_linear": True},
                 {"lora_target_modules": r".*self_attn\..*_proj"}):  # fmt: skip
        adapter = Lora(section(**keys))
        adapted = adapter.apply(moe(kind), dtype=torch.float32)
        names = {row.name.split("self_attn.")[-1].split(".")[0] for row in trainable_parameters(adapted)}
        assert names == {f"{letter}_proj" for letter in "qkvo"}
        assert len(trainable_parameters(adapted)) == 2 * 4 * 2
        adapter.save(adapted, tmp_path)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        assert not config["target_parameters"] and not config["rank_pattern"]


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        ("llama", {"lora_rank_pattern": {"k_proj": 2}}, "lora_rank_pattern.k_proj: 'k_proj' matches no target"),
        ("llama", {"lora_alpha_pattern": {"q_proj(": 2}}, "is no regular expression"),
        ("llama", {"peft_layers_to_transform": [1, 2]}, "names layers 2, and the targets are in layers 0 to 1"),
        ("llama", {"peft_layers_to_transform": [0], "peft_layers_pattern": ["h"]}, "are in no numbered layers"),
        ("llama", {"lora_target_parameters": ["mlp.experts"]}, "no experts in one tensor"),
        ("mixtral", {"lora_target_parameters": ["experts.up"]}, "parameters with experts: mlp.experts.down_proj"),
        ("mixtral", {"lora_target_modules": ["w1"]}, "lora_target_parameters: [mlp.experts.gate_up_proj"),
        ("qwen3_moe", {"lora_target_parameters": ["self_attn.q_proj.weight"]}, "by lora_target_modules too"),
        ("llama", {"lora_target_parameters": ["input_layernorm.weight"]}, "which is no matrix"),
        ("llama", {"peft_trainable_token_indices": [61]}, "has 61 rows, and no row 61"),
        ("llama", {"peft_trainable_token_indices": [1, 1]}, "holds 1 twice"),
        ("llama", {"peft_trainable_token_indices": {"wte": [1]}}, "matches no module"),
        ("tied", {"peft_trainable_token_indices": {"embed_tokens": [1], "lm_head": [2]}}, "share one tensor"),
        ("llama", {"peft_trainable_token_indices": [1], "lora_modules_to_save": ["embed_tokens"]}, "in full by"),
        ("llama", {"peft_trainable_token_indices": [1], "lora_target_modules": ["embed_tokens"]}, "has an adapter"),
        ("llama", {"peft_init_lora_weights": "pissa", "lora_r": 9}, "at most 8 directions"),
        ("llama", {"peft_init_lora_weights": "pissa", "lora_target_modules": ["embed_tokens"]}, "for linear layers"),
        ("gpt2", {"peft_init_lora_weights": "olora", "lora_target_modules": ["c_attn"]}, "store (in, out)"),
    ],
)
def test_what_the_model_does_not_have_is_refused(kind: str, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Lora(section(**keys)).apply(model(kind), dtype=torch.float32)
    assert said in str(caught.value)
