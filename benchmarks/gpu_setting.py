"""Models of real shapes with random weights, recipes for them, and how much work their steps are.

The share of the chip's matrix products is useful work over what a product of two large matrices reaches in the same
run. Useful work of a token, in floating-point operations, with N the numbers of all matrices inside the L layers of
width D, V D those of the output head, t the share of trained tokens, c the mean number of tokens that a token looks at:
forward F = 2 (N + t V D), and 4 L D c in attention; gradients of what enters F the same again, of attention twice as
much; gradients of the weights, where all are trained, F once more. What is recomputed is not counted.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True,
    },
    "llama-3-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""As in the config.json of meta-llama/Llama-3.2-1B and meta-llama/Meta-Llama-3-8B."""
LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "full": {}, "lora": LORA, "qlora": {**LORA, "adapter": "qlora", "load_in_4bit": True},
}  # fmt: skip
CASES = ("llama-3.2-1b/lora", "llama-3.2-1b/full", "llama-3-8b/lora", "llama-3-8b/qlora")
TINY_CASES = ("tiny/lora", "tiny/full", "tiny/qlora")
MATRIX = 8192
"""Rows and columns of the matrices whose product is timed on a GPU."""


def make(folder: Path, shape: dict[str, Any], technique: dict[str, Any], *, tiny: bool, steps: int) -> None:
    """Chats, a model with random weights and a tokenizer, and a recipe."""
    import torch
    import yaml
    from chats import write_chats
    from transformers import LlamaConfig, LlamaForCausalLM

    from axo.model.byte_tokenizer import train_byte_tokenizer

    length, rows = (256, 1) if tiny else (4096, 4)
    chats = folder / "chats.jsonl"
    write_chats(chats, num_rows=1 + steps * rows * length // 100)  # a chat has more than 100 tokens in the mean
    tokenizer = train_byte_tokenizer(chats.read_text().splitlines()[:500], vocab_size=512)
    tokenizer.save_pretrained(folder / "base")
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM._from_config(LlamaConfig(**shape, max_position_embeddings=8192), dtype=torch.bfloat16)
    model.save_pretrained(folder / "base")
    recipe = {
        "base_model": str(folder / "base"), "output_dir": str(folder / "out"), "dataset_prepared_path": str(folder),
        "datasets": [{"path": str(chats), "type": "chat_template"}], "chat_template": "chatml",
        "sequence_len": length, "excess_length_strategy": "truncate", "max_lost_tokens": 1.0,
        "sample_packing": True, "micro_batch_size": 1, "gradient_accumulation_steps": rows,
        "max_steps": steps, "learning_rate": 1e-4, "lr_scheduler": "constant", "optimizer": "adamw_torch_fused",
        "gradient_checkpointing": shape["num_hidden_layers"] > 16, **technique,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def useful_work(config: dict[str, Any], steps: list[list[Any]], *, in_full: bool) -> float:
    """Of a step, in floating-point operations: the formula above. What adapters add is left out (about 1 %)."""
    width, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    keys = width * config["num_key_value_heads"] // config["num_attention_heads"]
    inside = layers * width * (2 * width + 2 * keys + 3 * inner)
    total = 0.0
    for batch in (batch for step in steps for batch in step):
        lengths = batch.cu_seqlens.diff().double()
        tokens, trained = batch.input_ids.numel(), int((batch.targets != -100).sum())
        matrices = 2 * (tokens * inside + trained * config["vocab_size"] * width)
        attention = 4 * layers * width * float((lengths * (lengths + 1) / 2).sum())
        total += (3 if in_full else 2) * matrices + 3 * attention
    return total / len(steps)


def matmul_rate() -> float:
    """Floating-point operations a second of a product of two large matrices, bfloat16 on a GPU; the best of some."""
    import torch

    on_gpu = torch.cuda.is_available()
    size = MATRIX if on_gpu else 512
    left = torch.randn(
        size, size, device="cuda" if on_gpu else "cpu", dtype=torch.bfloat16 if on_gpu else torch.float32
    )
    best = float("inf")
    for _ in range(20):
        started = perf_counter()
        torch.mm(left, left)
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, perf_counter() - started)
    return 2 * size**3 / best
