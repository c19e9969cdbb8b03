"""What a tiny model may not be: of sizes that do not fit, or in the place of something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from axo.errors import AxoError
from axo.model.byte_tokenizer import CHATML_TOKENS, NUM_BYTES, SPECIAL_TOKENS


def check_sizes(sizes: Mapping[str, int], *, vocab_size: int, seed: int) -> None:
    """Raise AxoError where sizes do not fit together, or torch takes no such seed."""
    for name, size in sizes.items():
        if size < 1:
            raise AxoError(f"{name} is {size}", "expected: at least 1")
    if vocab_size < MIN_VOCAB_SIZE:
        raise AxoError(f"a vocabulary of {vocab_size} tokens is too small", f"use at least {MIN_VOCAB_SIZE}")
    if not 0 <= seed < MAX_SEED:
        raise AxoError(f"seed is {seed}", "expected: from 0 to 2**32 - 1")
    width, heads, kv_heads = (sizes[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if width % heads or (width // heads) % 2:
        raise AxoError(f"hidden size {width} does not divide into {heads} heads of an even size")
    if heads % kv_heads:
        raise AxoError(f"{heads} attention heads cannot share {kv_heads} key-value heads evenly")


def check_folder(out: Path) -> None:
    """Raise AxoError where something else than a former tiny model would be written over."""
    if not out.exists():
        return
    if not out.is_dir():
        raise AxoError(f"{out} is a file", "choose another folder for the model")
    others = sorted(entry.name for entry in out.iterdir() if entry.name not in _WRITTEN)
    if others:
        raise AxoError(f"{out} is not empty ({', '.join(others[:3])})", "choose another folder for the model")
    if (out / "config.json").exists() and not _is_tiny(out / "config.json"):
        raise AxoError(f"{out} holds another model", "choose another folder for the model")


def _is_tiny(config: Path) -> bool:
    """Whether the weights were drawn as here, which is like no other model."""
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        return values["initializer_range"] == values["hidden_size"] ** -0.5
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return False


MIN_VOCAB_SIZE = NUM_BYTES + len({*SPECIAL_TOKENS.values(), *CHATML_TOKENS})
MAX_SEED = 2**32
_WRITTEN = frozenset(
    """
    chat_template.jinja config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json
    """.split()
)
