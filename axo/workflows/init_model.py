"""How large a model is, from its config.json or its name, and what of a run fits into a GPU: a rule of thumb.

Bytes on the GPU = parameters x bytes each + head + rows x sequence_len x bytes of a token + what CUDA itself takes.
It is meant to start from; the run shows its own peak.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import expanduser
from pathlib import Path
from typing import Any, cast

from axo.errors import Finding, RecipeError
from axo.plan.facts import read_model_config
from axo.plan.places import can_be_hub_name
from axo.recipe.describe import found_text

GIB = 2**30
ROWS_A_STEP = 8
SEQUENCE_LEN, SHORTEST = 2048, 512
LORA_BYTES = 2.16
"""Each parameter in bfloat16, and 1 % of them again in an adapter: float32 weight, gradient and two Adam moments."""
FULL_BYTES = 18
"""Weight, gradient and two Adam moments in float32 (master_weights: float32), and autocast's copy in bfloat16."""
FULL_BF16_BYTES = 8
"""Weight, gradient and two Adam moments in bfloat16."""
LAYER_BYTES = 75
"""Activations of a token in one layer, for each unit of hidden_size: what torch's saved_tensors_hooks count in layers
of transformers' Llama and Qwen3 is 49 to 80. (The 34 of Korthikanti et al. 2022, arXiv 2205.05198, section 4.1, has
neither gated feed-forwards nor norms in float32.)"""
KEPT_BYTES = 2
"""With gradient_checkpointing: the bfloat16 input of each layer; one layer at a time is computed again."""
HEAD_BYTES = 10 * 2**25
"""A piece of the chunked cross-entropy: 2**25 logits in bfloat16, float32, and their gradient."""
CUDA_BYTES, USABLE = GIB, 0.9
"""CUDA's own memory, and the share that fragments leave."""
WIDTH_TO_DEPTH = 128
"""hidden_size / num_hidden_layers where only the number of parameters is known (Llama 3 8B: 4096 / 32)."""


@dataclass(frozen=True)
class Size:
    parameters: float
    hidden_size: float
    num_hidden_layers: float
    source: str
    """Where it is from: `config.json` or `its name`."""
    max_len: int | None = None
    """Longest sequence that the model was made for, where it says so."""


@dataclass(frozen=True)
class Batch:
    """What a recipe asks for so that a step has ROWS_A_STEP rows and fits."""

    micro_batch_size: int = 1
    gradient_checkpointing: bool = True
    sequence_len: int = SEQUENCE_LEN
    master_weights: bool = False
    needed_bytes: float | None = None
    """None: the model's or the GPU's size is not known."""
    fits: bool = True

    @property
    def gradient_accumulation_steps(self) -> int:
        return ROWS_A_STEP // self.micro_batch_size


def find_size(model: str) -> Size | None:
    """Of a folder by its config.json, else by the name (`8B`, `0.6B`, `8x7B`, `135M`); None: not known.

    RecipeError for a path without a model."""
    kind = _kind_of(model)
    if kind == "folder":
        return _size_of_config(read_model_config(str(Path(expanduser(model)))))
    if kind == "name":
        return size_of_name(model)
    hint = "give a folder saved by transformers, or a hub name such as Qwen/Qwen3-0.6B"
    raise RecipeError([Finding("base_model", f"found {found_text(model)}: it is {kind}", hint, "--model")])


def _kind_of(model: str) -> str:
    """`folder`, `name`, or what is wrong with it."""
    try:
        path = Path(expanduser(model))
        if path.is_dir():
            return "folder"
        if path.exists():
            return "a file"
    except (OSError, RuntimeError, ValueError):  # a name too long, with a NUL, or with a home that is not there
        pass
    if model.startswith((".", "/", "~")):
        return "no folder here"
    return "name" if can_be_hub_name(model) else "no folder here and no name that the hub could have"


def size_of_name(name: str) -> Size | None:
    """The first `8B` or `135M` of a name that stands on its own; `A3B` (active parameters) does not count."""
    found = _IN_NAME.search(name)
    if found is None:
        return None
    times, number, unit = found.groups()
    parameters = float(number) * int(times or 1) * {"b": 1e9, "m": 1e6}[unit.lower()]
    if not parameters:
        return None
    # A block has about 12 hidden_size**2 parameters (Kaplan et al. 2020, arXiv 2001.08361, table 1).
    layers = (parameters / (12 * WIDTH_TO_DEPTH**2)) ** (1 / 3)
    return Size(parameters, WIDTH_TO_DEPTH * layers, layers, "its name")


def has_chat_template(model: str) -> bool | None:
    """Whether a model folder's tokenizer has a chat template; None for a hub name."""
    folder = Path(expanduser(model))
    if not folder.is_dir():
        return None
    if any(
        (folder / name).exists() for name in ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    ):
        return True
    try:
        return '"chat_template"' in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def choose_batch(size: Size | None, *, memory_gib: float | None, full: bool) -> Batch:
    """The largest micro-batch that fits, without gradient_checkpointing where the whole step fits so.

    Rows become shorter only where not even one fits; full fine-tuning gives up float32 weights before that."""
    longest = min(SEQUENCE_LEN, (size and size.max_len) or SEQUENCE_LEN)
    if size is None or memory_gib is None:
        return Batch(sequence_len=longest)
    usable, fixed = memory_gib * GIB * USABLE, 0.0
    for each in (FULL_BYTES, FULL_BF16_BYTES) if full else (LORA_BYTES,):
        fixed = size.parameters * each + HEAD_BYTES + CUDA_BYTES
        length = longest
        while length >= min(SHORTEST, longest):
            if batch := _rows(size, usable - fixed, fixed=fixed, length=length, wide=each == FULL_BYTES):
                return batch
            length //= 2
    length = min(SHORTEST, longest)
    least = fixed + length * _token_bytes(size, checkpointed=True)
    return Batch(sequence_len=length, needed_bytes=least, fits=False)


def _rows(size: Size, free: float, *, fixed: float, length: int, wide: bool) -> Batch | None:
    for checkpointed in (False, True):
        row = length * _token_bytes(size, checkpointed=checkpointed)
        rows = next((rows for rows in (8, 4, 2, 1) if rows * row <= free), 0)
        if rows == ROWS_A_STEP or (checkpointed and rows):
            return Batch(rows, checkpointed, length, master_weights=wide, needed_bytes=fixed + rows * row)
    return None


def _token_bytes(size: Size, *, checkpointed: bool) -> float:
    if checkpointed:
        return size.hidden_size * (KEPT_BYTES * size.num_hidden_layers + LAYER_BYTES)
    return size.hidden_size * LAYER_BYTES * size.num_hidden_layers


def _size_of_config(config: Any) -> Size | None:
    if not isinstance(config, dict):
        return None
    values = cast("dict[str, Any]", config)
    if isinstance(values.get("text_config"), dict):  # a model that sees or hears: the part that is trained
        values = cast("dict[str, Any]", values["text_config"])
    hidden, layers = _number(values, "hidden_size", "n_embd"), _number(values, "num_hidden_layers", "n_layer")
    heads, vocabulary = _number(values, "num_attention_heads", "n_head"), _number(values, "vocab_size")
    if not (hidden and layers and heads and vocabulary):
        return None
    head_dim = _number(values, "head_dim") or hidden // heads
    experts = _number(values, "num_experts", "num_local_experts", "n_routed_experts") or 1
    inner = (_number(values, "moe_intermediate_size") if experts > 1 else None) or (
        _number(values, "intermediate_size", "n_inner") or 4 * hidden
    )
    attention = 2 * hidden * head_dim * (heads + (_number(values, "num_key_value_heads") or heads))
    embeddings = vocabulary * hidden * (1 if values.get("tie_word_embeddings") else 2)
    parameters = layers * (attention + 3 * hidden * inner * experts) + embeddings
    return Size(parameters, hidden, layers, "config.json", _number(values, "max_position_embeddings", "n_positions"))


def _number(values: Mapping[str, Any], *names: str) -> int | None:
    found = (values.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])")
