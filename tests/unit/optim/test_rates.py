"""Learning rates of their own: against peft's LoRA+ and tables worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, Qwen3Config

from axo.errors import RecipeError
from axo.optim.groups import parameter_groups, rates
from axo.recipe.adapters import AdapterSection
from axo.recipe.optim import OptimSection

LR, DECAY = 2e-4, 0.1
QWEN = Qwen3Config(
    vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, head_dim=8, pad_token_id=0, tie_word_embeddings=False,
)  # fmt: skip


def found(module: nn.Module, adapters: dict[str, Any] | None = None, **keys: Any) -> dict[str, tuple[float, float]]:
    """Name -> learning rate and decay."""
    section = OptimSection(learning_rate=LR, weight_decay=DECAY, **keys)
    own = rates(section, AdapterSection(**(adapters or {})))
    groups = parameter_groups(module, weight_decay=DECAY, own=own)
    return {
        name: (pytest.approx(group["lr_scale"] * LR), group["weight_decay"])
        for group in groups
        for name in group["param_names"]
    }


@pytest.fixture(scope="module")
def qwen() -> nn.Module:
    return AutoModelForCausalLM.from_config(QWEN)


def test_without_a_key_every_rate_is_that_of_the_run(qwen: nn.Module) -> None:
    groups = parameter_groups(qwen, weight_decay=DECAY)
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0]


@pytest.mark.parametrize(("keys", "rate"), [({"embedding_lr": 5e-5}, 5e-5), ({"embedding_lr_scale": 0.5}, 1e-4)])
def test_embeddings_and_head_have_a_rate_of_their_own_and_do_not_decay(
    qwen: nn.Module, keys: dict[str, float], rate: float
) -> None:
    table = found(qwen, **keys)
    assert table.pop("model.embed_tokens.weight") == table.pop("lm_head.weight") == (rate, 0.0)
    for name, (own, decay) in table.items():
        assert (own, decay) == (LR, 0.0 if "norm" in name else DECAY), name


def test_embeddings_of_other_names_count_too() -> None:
    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=16))
    table = found(gpt2, embedding_lr=5e-5)
    assert {name for name, (rate, _) in table.items() if rate == 5e-5} == {
        "transformer.wte.weight",
        "transformer.wpe.weight",
    }


def test_lr_groups_take_decaying_weights_whose_names_contain_a_part_the_first_that_fits(qwen: nn.Module) -> None:
    """Axolotl's create_optimizer_grouped_parameters: norms are in no group, and earlier modules go first."""
    groups = [{"name": "first", "modules": ["layers.0", "q_proj"], "lr": 1e-5},
              {"name": "second", "modules": ["self_attn", "lm_head"], "lr": 3e-5}]  # fmt: skip
    table = found(qwen, lr_groups=groups)
    expected = {
        "model.layers.0.self_attn.q_proj.weight": (1e-5, DECAY),
        "model.layers.0.mlp.up_proj.weight": (1e-5, DECAY),
        "model.layers.0.input_layernorm.weight": (LR, 0.0),
        "model.layers.0.self_attn.q_norm.weight": (LR, 0.0),
        "model.layers.1.self_attn.q_proj.weight": (1e-5, DECAY),
        "model.layers.1.self_attn.k_proj.weight": (3e-5, DECAY),
        "model.layers.1.mlp.up_proj.weight": (LR, DECAY),
        "model.embed_tokens.weight": (LR, DECAY),
        "lm_head.weight": (3e-5, DECAY),
    }
    assert {name: table[name] for name in expected} == expected


def peft_model(**keys: Any) -> nn.Module:
    model = AutoModelForCausalLM.from_config(QWEN)
    return get_peft_model(model, LoraConfig(r=2, **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
        {"target_modules": ["v_proj"], "modules_to_save": ["lm_head", "norm"], "lora_bias": True},
    ],
)
@pytest.mark.parametrize("embedding", [None, 3e-5])
def test_loraplus_has_the_rates_of_peft(keys: dict[str, Any], embedding: float | None) -> None:
    """And the decay of the recipe, where peft has one of its own."""
    model = peft_model(**keys)
    options = {} if embedding is None else {"loraplus_lr_embedding": embedding}
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=LR, loraplus_lr_ratio=16, loraplus_weight_decay=DECAY, **options
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    table = found(model, {"loraplus_lr_ratio": 16, **options})
    assert {name: rate for name, (rate, _) in table.items()} == expected
    plain = found(model)
    assert {name: decay for name, (_, decay) in table.items()} == {name: decay for name, (_, decay) in plain.items()}


def test_modules_to_save_have_the_rate_of_embeddings() -> None:
    model = peft_model(target_modules=["q_proj"], modules_to_save=["lm_head", "gate_proj"])
    table = found(model, embedding_lr=5e-5)
    own = {name for name, (rate, _) in table.items() if rate == 5e-5}
    assert own == {
        "base_model.model.lm_head.modules_to_save.default.weight",
        "base_model.model.model.layers.0.mlp.gate_proj.modules_to_save.default.weight",
        "base_model.model.model.layers.1.mlp.gate_proj.modules_to_save.default.weight",
    }


def test_a_rate_of_nothing_is_refused(qwen: nn.Module) -> None:
    with pytest.raises(RecipeError, match="'w_proj' is in the name of no trained weight") as caught:
        found(qwen, lr_groups=[{"name": "a", "modules": ["q_proj", "w_proj"], "lr": 1e-5}])
    assert "model.layers.0" in (caught.value.findings[0].hint or "")
    with pytest.raises(RecipeError, match="'input_layernorm' is only in names of biases, norms"):
        found(qwen, lr_groups=[{"name": "a", "modules": ["input_layernorm"], "lr": 1e-5}])
    wide, narrow = ({"name": part, "modules": [part], "lr": lr} for part, lr in (("proj", 1e-5), ("q_proj", 1e-4)))
    found(qwen, lr_groups=[narrow, wide])
    with pytest.raises(RecipeError, match="'q_proj' is only in names that an earlier part takes"):
        found(qwen, lr_groups=[wide, narrow])
    with pytest.raises(RecipeError, match="neither embeddings nor"):
        found(peft_model(target_modules=["q_proj"]), embedding_lr=1e-5)
