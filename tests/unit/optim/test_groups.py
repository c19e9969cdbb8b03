"""Parameter groups against transformers.Trainer's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
    Trainer,
    TrainingArguments,
)

from axo.errors import TrainingError
from axo.optim.groups import parameter_groups

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
CONFIGS = {
    "qwen3 with q_norm": Qwen3Config(**SMALL),
    "qwen2 with biases, tied": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "gpt2 with ln_f": GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=16),
    "stablelm with LayerNorm": StableLmConfig(**SMALL),
}


class Wrapped(nn.Module):
    """As an objective owns its model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def oracle_names(model: nn.Module, folder: Path) -> tuple[set[str], set[str]]:
    """Names that transformers.Trainer's own optimizer decays and does not."""
    trainer = Trainer(model, TrainingArguments(folder, weight_decay=0.1, use_cpu=True, report_to=[]))
    groups = trainer.create_optimizer().param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, undecayed = ({names[p] for p in group["params"]} for group in groups)
    assert groups[0]["weight_decay"] == 0.1
    assert groups[1]["weight_decay"] == 0.0
    return decayed, undecayed


def split_names(module: nn.Module) -> tuple[set[str], set[str]]:
    groups = parameter_groups(module, weight_decay=0.1)
    decayed = {name for group in groups if group["weight_decay"] == 0.1 for name in group["param_names"]}
    undecayed = {name for group in groups if group["weight_decay"] == 0.0 for name in group["param_names"]}
    return decayed, undecayed


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_trainer_decays_the_same_parameters(kind: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[kind])
    decayed, undecayed = oracle_names(model, tmp_path)
    assert decayed
    assert undecayed
    assert split_names(model) == (decayed, undecayed)


def test_the_trainer_decays_the_same_lora_parameters(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["qwen2 with biases, tied"])
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_bias=True, modules_to_save=["norm"])
    peft_model = get_peft_model(model, lora)
    expected = oracle_names(peft_model, tmp_path)
    assert split_names(peft_model) == expected
    assert all(parameters for parameters in expected)


def test_a_wrapping_module_changes_names_but_not_groups() -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["gpt2 with ln_f"])
    plain = split_names(model)
    wrapped = split_names(Wrapped(model))
    assert wrapped == tuple({f"model.{name}" for name in names} for names in plain)


def test_names_run_beside_their_parameters_and_a_tied_one_stands_once() -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["qwen2 with biases, tied"])
    names = [name for group in parameter_groups(model, weight_decay=0.1) for name in group["param_names"]]
    parameters = [parameter for group in parameter_groups(model, weight_decay=0.1) for parameter in group["params"]]
    assert dict(zip(names, parameters, strict=True)) == dict(model.named_parameters())
    assert "lm_head.weight" not in names


def test_frozen_parameters_are_left_out_and_so_are_empty_groups() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    module[1].requires_grad_(requires_grad=False)
    (group,) = parameter_groups(module, weight_decay=0.1)
    assert group["param_names"] == ["0.weight"]
    assert group["params"] == [module[0].weight]


def test_a_model_without_trained_parameters_is_refused() -> None:
    with pytest.raises(TrainingError, match="no parameter"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(requires_grad=False), weight_decay=0.0)


def test_torch_keeps_the_names_in_the_optimizer_state() -> None:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(parameter_groups(module, weight_decay=0.1))
    saved = optimizer.state_dict()["param_groups"]
    assert [group["param_names"] for group in saved] == [["weight"], ["bias"]]
