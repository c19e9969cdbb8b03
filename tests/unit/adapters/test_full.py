"""Full fine-tuning: what is trained and what plain transformers reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from axo.adapters.base import trainable_parameters
from axo.adapters.full import Full
from axo.recipe.adapters import AdapterSection


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_is_trained_in_the_dtype_it_was_loaded_in(tiny_llama_dir: Path, dtype: torch.dtype) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=dtype)
    applied = Full(AdapterSection()).apply(model, dtype=torch.float32)
    table = trainable_parameters(applied)
    assert {row.dtype for row in table} == {dtype}
    assert sum(row.size for row in table) == model.num_parameters()


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_is_the_trained_one_in_plain_transformers(
    tmp_path: Path, tiny_llama_dir: Path, tied: bool
) -> None:
    adapter = Full(AdapterSection())
    trained = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    trained.config.tie_word_embeddings = tied
    trained.tie_weights()
    model = adapter.apply(trained, dtype=torch.float32)
    ids = torch.arange(12)[None]
    model(ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    adapter.save(model, tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(reloaded(ids).logits, model(ids).logits)
    assert (reloaded.lm_head.weight is reloaded.model.embed_tokens.weight) == tied
    assert adapter.load(model, tmp_path) is model
