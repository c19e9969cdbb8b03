"""Tiny models of the architectures that the laws are shown on, with random weights.

They are 64 wide, so that weights fill the blocks that quantisation works in, and their windows are shorter than the
samples of the tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

WINDOW = 5
ROPE: dict[str, Any] = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}
ENDS: dict[str, Any] = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1, **ENDS,
}  # fmt: skip
UNTIED: dict[str, Any] = {"tie_word_embeddings": False}
TIED: dict[str, Any] = {"tie_word_embeddings": True}
PER_KIND = {
    "full_attention": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 8.0},
    "sliding_attention": {"rope_theta": 500.0, "rope_type": "default"},
}

MODELS: dict[str, Callable[[int], PreTrainedConfig]] = {
    "llama": lambda rows: LlamaConfig(vocab_size=rows, **SIZES, **ROPE, **UNTIED),
    "mistral": lambda rows: MistralConfig(vocab_size=rows, **SIZES, **ROPE, **UNTIED, sliding_window=WINDOW),
    "qwen2": lambda rows: Qwen2Config(vocab_size=rows, **SIZES, **ROPE, **TIED),
    "qwen3": lambda rows: Qwen3Config(vocab_size=rows, **SIZES, **ROPE, **UNTIED, head_dim=32),
    "gemma2": lambda rows: Gemma2Config(
        vocab_size=rows, **SIZES, **ROPE, **TIED, head_dim=16, query_pre_attn_scalar=12, sliding_window=WINDOW,
        attn_logit_softcapping=2.0, final_logit_softcapping=5.0,
    ),
    "gemma3_text": lambda rows: Gemma3TextConfig(
        vocab_size=rows, **SIZES, **TIED, head_dim=16, query_pre_attn_scalar=12, sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"], rope_parameters=PER_KIND,
    ),
    "phi3": lambda rows: Phi3Config(vocab_size=rows, **SIZES, **ROPE, **UNTIED, sliding_window=WINDOW),
    "qwen3_moe": lambda rows: Qwen3MoeConfig(
        vocab_size=rows, **SIZES, **ROPE, **UNTIED, moe_intermediate_size=64, num_experts=4,
        num_experts_per_tok=2, norm_topk_prob=True,
    ),
    "mixtral": lambda rows: MixtralConfig(
        vocab_size=rows, **SIZES, **ROPE, **UNTIED, num_local_experts=4, num_experts_per_tok=2, sliding_window=None
    ),
}  # fmt: skip
"""Name -> config for a vocabulary of so many rows."""
WITH_EXPERTS = ("qwen3_moe", "mixtral")


def save_model(folder: Path, kind: str, *, tokenizer: Path, seed: int = 3) -> Path:
    """A model of the kind with the tokenizer beside it; vectors (norms, biases) are drawn too, so that their usual
    first values hide nothing."""
    from transformers import AutoTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(MODELS[kind](len(AutoTokenizer.from_pretrained(tokenizer))))
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    for path in tokenizer.iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder
