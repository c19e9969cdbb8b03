"""A saved LoRA adapter: which matrices are to be added to which base weight, and which tensors replace it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from axo.errors import CheckpointError
from axo.export.base_model import read_json
from axo.export.tensor_file import FLOATS, Stored, open_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_PARTS = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<part>[AB])(\.weight)?")

_BENEATH = re.compile(r"\.(base_layer|original_module)\.")
_COPY = ".modules_to_save."
"""In names of a trained copy, which peft stores a second time so where the vocabulary grew."""

_PLAIN_INITS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base weight as it is; others (pissa, olora, loftq, ...) subtract
something from it, which a saved adapter only undoes together with that changed base."""

_NEUTRAL = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform"),
    *("layers_pattern", "lora_dropout", "ensure_weight_tying", "megatron_core", "runtime_config", "bias"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "init_lora_weights"),
}
"""Keys of adapter_config.json that are read here or change nothing in the merged weights. Any other key must be
off: it is a variant of LoRA (or one that is newer than this file) whose mathematics is another."""


@dataclass(frozen=True)
class LowRank:
    """delta = scale * left @ right, in the layout of the base weight."""

    down: Stored
    """lora_A: (r, in), of an embedding (r, rows)."""
    up: Stored
    """lora_B: (out, r), of an embedding (dim, r)."""
    scale: float
    embedding: bool
    fan_in_fan_out: bool

    def oriented(self, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Views (left (rows, r), right (r, columns)) for a weight of `shape`; None if they do not fit it.

        A linear layer's delta is B @ A; that of an embedding, or of a layer that keeps its weight as (in, out),
        is its transpose A.T @ B.T. The recorded `fan_in_fan_out` only decides for square weights: peft sets it for
        each layer by its class, whatever the adapter's file says.
        """
        down, up = self.down.matrix(), self.up.matrix()
        plain, transposed = (up, down), (down.T, up.T)
        order = (transposed, plain) if self.fan_in_fan_out else (plain, transposed)
        for left, right in (transposed,) if self.embedding else order:
            if (left.shape[0], right.shape[1]) == shape:
                return left, right
        return None


@dataclass(frozen=True)
class Adapter:
    """Everything in an adapter's file, by the name of the base parameter that it changes."""

    folder: Path
    deltas: Mapping[str, LowRank]
    trained: Mapping[str, Stored]
    """Tensors trained in full (`modules_to_save`, biases, embeddings of a grown vocabulary)."""
    originals: Mapping[str, Stored]
    """The base weight as it was beneath a delta or a trained copy, which peft stores for embeddings and output
    heads, and the trained biases of layers with a delta."""


def open_adapter(folder: Path) -> Adapter:
    """Open an adapter folder as peft's save_pretrained writes it.

    Raises:
        CheckpointError: no LoRA adapter, a variant of LoRA that cannot be merged here, or damaged files.
    """
    config = read_json(folder / CONFIG_FILE)
    _check_mergeable(folder, config)
    if not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(f"{folder}: no {WEIGHTS_FILE}", "save the adapter with save_pretrained as safetensors")
    file = open_tensors(folder / WEIGHTS_FILE)
    parts: dict[tuple[str, bool], dict[str, Stored]] = {}
    trained: dict[str, Stored] = {}
    originals: dict[str, Stored] = {}
    for key, entry in file.entries.items():
        stored, name = Stored(file, entry), key.removeprefix(_PREFIX)
        _check_numbers(stored)
        if match := _PARTS.fullmatch(name):
            parts.setdefault((match["module"], bool(match["embedding"])), {})[match["part"]] = stored
        elif mark := _BENEATH.search(name):
            originals[name.replace(mark[0], ".")] = stored
        else:
            _keep_once(trained, name.replace(_COPY, "."), stored)
    deltas = {f"{module}.weight": _low_rank(config, module, embedding, ab) for (module, embedding), ab in parts.items()}
    return Adapter(folder, deltas, trained, originals)


def _check_mergeable(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{folder}: the adapter is of type {kind}", "only LoRA adapters can be merged")
    if config.get("use_dora"):
        raise CheckpointError(
            f"{folder}: a DoRA adapter (use_dora) cannot be merged by adding a product",
            "merge it with peft's merge_and_unload",
        )
    _check_types(folder, config)
    init = config.get("init_lora_weights", True)
    if init not in _PLAIN_INITS:
        raise CheckpointError(
            f"{folder}: init_lora_weights {init!r} changed the base model's weights before training",
            "save it as a plain LoRA first (peft: save_pretrained with path_initial_model_for_weight_conversion)",
        )
    variants = sorted(key for key, value in config.items() if key not in _NEUTRAL and value)
    if variants:
        raise CheckpointError(f"{folder}: cannot merge an adapter with {', '.join(variants)}", "merge it with peft")


def _check_types(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a key that the merge computes with is not of its kind."""
    patterns = {key: config.get(key) or {} for key in ("rank_pattern", "alpha_pattern")}
    fits = {"r": _is_number(config.get("r")), "lora_alpha": _is_number(config.get("lora_alpha"))}
    fits |= {
        key: isinstance(pattern, dict) and all(_is_number(value) and _compiles(text) for text, value in pattern.items())
        for key, pattern in patterns.items()
    }
    wrong = [f"{key} is {config.get(key)!r}" for key, fit in fits.items() if not fit]
    if wrong:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {', '.join(wrong)}", "the file is damaged: copy it again")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _check_numbers(stored: Stored) -> None:
    entry, path = stored.entry, stored.file.path
    if entry.dtype not in FLOATS:
        raise CheckpointError(f"{path}: tensor {entry.name} has the number format {entry.dtype}")
    if not math.prod(entry.shape):
        raise CheckpointError(
            f"{path}: tensor {entry.name} is empty {list(entry.shape)}",
            "it was saved from a sharded model without gathering its weights",
        )


def _keep_once(trained: dict[str, Stored], name: str, stored: Stored) -> None:
    other = trained.setdefault(name, stored)
    if other is not stored and (
        other.entry.shape != stored.entry.shape or not torch.equal(other.matrix(), stored.matrix())
    ):
        raise CheckpointError(f"{stored.file.path}: {name} is there twice, with different values")


def _low_rank(config: Mapping[str, Any], module: str, embedding: bool, parts: Mapping[str, Stored]) -> LowRank:
    if set(parts) != {"A", "B"}:
        (present,) = parts
        raise CheckpointError(f"{module}: lora_{present} is in the adapter, but its other half is missing")
    down, up = parts["A"], parts["B"]
    for part in (down, up):
        if len(part.entry.shape) != 2:
            raise CheckpointError(f"{part.entry.name}: only adapters on linear layers and embeddings can be merged")
        if not torch.isfinite(part.matrix()).all():
            raise CheckpointError(f"{part.entry.name}: holds values that are not finite: the training diverged")
    rank = int(_by_pattern(config.get("rank_pattern"), module, config["r"]))
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"]))
    if (down.entry.shape[0], up.entry.shape[1]) != (rank, rank):
        raise CheckpointError(
            f"{module}: matrices of shape {list(down.entry.shape)} and {list(up.entry.shape)}, "
            f"but {CONFIG_FILE} says rank {rank}"
        )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LowRank(down, up, scale, embedding, bool(config.get("fan_in_fan_out")))


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of the module's name at a dot (peft: get_pattern_key)."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
