"""What was saved is read back: another tensor, another shape, another byte, and it is an error with the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from axo.adapters.lora import Lora
from axo.errors import CheckpointError
from axo.recipe.adapters import AdapterSection
from axo.train.verify import check_adapter, check_model

FILE, ADAPTER = "model.safetensors", "adapter_model.safetensors"


def make(**keys: Any) -> Any:
    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, **keys))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", ["50GB", "2KB"])
def test_what_transformers_saves_passes(tmp_path: Path, tied: bool, size: str) -> None:
    model = make(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, max_shard_size=size)
    check_model(tmp_path, model)


NORM = "model.layers.1.input_layernorm.weight"
DAMAGES: dict[str, tuple[Any, str]] = {
    "missing": (lambda tensors: tensors.pop(NORM), f"{NORM} is missing"),
    "unknown": (lambda tensors: tensors.update(other=torch.ones(2)), "other is unknown"),
    "reshaped": (lambda tensors: tensors.update({NORM: torch.ones(0)}), rf"{NORM} is F32 \(0,\), expected F32 \(8,\)"),
    "another format": (lambda tensors: tensors.update({NORM: torch.ones(8).bfloat16()}), "BF16"),
    "empty": (lambda tensors: tensors.clear(), "missing|holds 0 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_is_not_the_trained_one_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / FILE)
    change, says = DAMAGES[damage]
    change(tensors)
    save_file(tensors, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=says):
        check_model(tmp_path, model)


def test_a_file_that_was_cut_short_or_is_not_there_is_refused(tmp_path: Path) -> None:
    model = make()
    with pytest.raises(CheckpointError, match="no weights were saved"):
        check_model(tmp_path, model)
    model.save_pretrained(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-4])
    with pytest.raises(CheckpointError, match=f"holds {len(content) - 4 - 8 - int.from_bytes(content[:8], 'little')}"):
        check_model(tmp_path, model)


def test_an_index_that_names_another_file_is_refused(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    del index["weight_map"][NORM]
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"e.g. of {NORM}"):
        check_model(tmp_path, model)


LORA = {"adapter": "lora", "lora_r": 2, "lora_alpha": 4, "lora_target_linear": True}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"peft_use_dora": True},
    "saved head": {"lora_modules_to_save": ["lm_head"]},
    "pissa": {"peft_init_lora_weights": "pissa"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_passes_and_one_that_lacks_a_matrix_does_not(tmp_path: Path, kind: str) -> None:
    adapter = Lora(AdapterSection(**LORA, **KINDS[kind]))
    model = adapter.apply(make(), dtype=torch.float32)
    adapter.save(model, tmp_path)
    check_adapter(tmp_path, model, rank_factor=adapter.rank_factor)
    tensors = load_file(tmp_path / ADAPTER)
    lost = sorted(tensors)[0]
    del tensors[lost]
    save_file(tensors, tmp_path / ADAPTER)
    with pytest.raises(CheckpointError, match=f"{lost} is missing"):
        check_adapter(tmp_path, model, rank_factor=adapter.rank_factor)
