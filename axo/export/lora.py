"""A saved LoRA adapter: what is to be done to which base weight, and which tensors replace it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from axo.errors import CheckpointError
from axo.export.adapter_config import CONFIG_FILE, Scaling, check_mergeable, token_indices
from axo.export.base_model import read_json
from axo.export.changes import Change, Dora, LowRank, Rows
from axo.export.tensor_file import FLOATS, Stored, open_tensors

WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_PARTS = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<part>[AB]|magnitude_vector)(\.weight)?")
_ROWS = ".token_adapter.trainable_tokens_delta"
_BENEATH = re.compile(r"(\.token_adapter)?\.(base_layer|original_module)\.")
_COPY = ".modules_to_save."
"""In names of a trained copy, which peft stores a second time so where the vocabulary grew."""
_LAYERS = re.compile(r"(\.base_layer)+$")


@dataclass(frozen=True)
class Wrapped:
    """Low-rank matrices of a parameter that no module of its own computes with (peft: target_parameters). peft nests
    them where a module has several, so that names tell which module it is, and shapes which parameter."""

    module: str
    parameters: tuple[str, ...]
    """Full names that target_parameters may mean in this module."""
    nested: bool
    down: Stored
    """lora_A: (r * experts, in)."""
    up: Stored
    """lora_B: (out, r * experts)."""


@dataclass(frozen=True)
class Adapter:
    """Everything in an adapter's file, by the name of the base parameter that it changes."""

    folder: Path
    scaling: Scaling
    changes: Mapping[str, Change]
    wrapped: tuple[Wrapped, ...]
    trained: Mapping[str, Stored]
    """Tensors trained in full (`modules_to_save`, biases, embeddings of a grown vocabulary)."""
    originals: Mapping[str, Stored]
    """The base weight as it was beneath a delta or a trained copy, which peft stores for embeddings and output
    heads, and the trained biases of layers with a delta."""


@dataclass
class _Sorted:
    """Tensors of the file by what they are part of."""

    parts: dict[str, dict[str, Stored]] = field(default_factory=dict)
    embeddings: set[str] = field(default_factory=set)
    rows: dict[str, Stored] = field(default_factory=dict)
    trained: dict[str, Stored] = field(default_factory=dict)
    originals: dict[str, Stored] = field(default_factory=dict)


def open_adapter(folder: Path) -> Adapter:
    """Open an adapter folder as peft's save_pretrained writes it.

    Raises:
        CheckpointError: no LoRA adapter, a variant of LoRA that cannot be merged here, or damaged files.
    """
    config = read_json(folder / CONFIG_FILE)
    check_mergeable(folder, config)
    if not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(f"{folder}: no {WEIGHTS_FILE}", "save the adapter with save_pretrained as safetensors")
    found = _sort(folder / WEIGHTS_FILE)
    changes: dict[str, Change] = {}
    wrapped: list[Wrapped] = []
    for module, parts in found.parts.items():
        parameters = _parameters(config, module)
        if parameters:
            down, up = _pair(module, parts)
            nested = _LAYERS.search(module) is not None
            wrapped.append(Wrapped(_LAYERS.sub("", module), parameters, nested, down, up))
        else:
            changes[f"{module}.weight"] = _low_rank(config, module, parts, embedding=module in found.embeddings)
    changes |= {f"{module}.weight": _rows(config, module, values) for module, values in found.rows.items()}
    return Adapter(folder, Scaling(config), changes, tuple(wrapped), found.trained, found.originals)


def _sort(path: Path) -> _Sorted:
    file, found = open_tensors(path), _Sorted()
    for key, entry in file.entries.items():
        stored, name = Stored(file, entry), key.removeprefix(_PREFIX)
        _check_numbers(stored)
        if match := _PARTS.fullmatch(name):
            found.parts.setdefault(match["module"], {})[match["part"]] = stored
            found.embeddings |= {match["module"]} if match["embedding"] else set()
        elif name.endswith(_ROWS):
            found.rows[name.removesuffix(_ROWS)] = stored
        elif mark := _BENEATH.search(name):
            found.originals[name.replace(mark[0], ".")] = stored
        else:
            _keep_once(found.trained, name.replace(_COPY, "."), stored)
    return found


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
    if other is not stored and (other.shape != stored.shape or not torch.equal(other.matrix(), stored.matrix())):
        raise CheckpointError(f"{stored.file.path}: {name} is there twice, with different values")


def _parameters(config: Mapping[str, Any], module: str) -> tuple[str, ...]:
    """Parameters of a module that target_parameters names; a module may have none of that name."""
    inside = _LAYERS.sub("", module)
    named = ((key, f"{inside}.{key.rpartition('.')[2]}") for key in config.get("target_parameters") or ())
    fitting = [name for key, name in named if name == key or name.endswith(f".{key}")]
    targets = config.get("target_modules") or ()
    own_module = not isinstance(targets, str) and any(inside == name or inside.endswith(f".{name}") for name in targets)
    return () if own_module else tuple(sorted(fitting))


def _pair(module: str, parts: Mapping[str, Stored]) -> tuple[Stored, Stored]:
    for part, other in ("AB", "BA"):
        if other not in parts:
            there = f"lora_{part} is in the adapter" if part in parts else "neither lora_A nor lora_B is in the adapter"
            raise CheckpointError(f"{module}: {there}, but its other half is missing")
    for part in (parts["A"], parts["B"]):
        if len(part.shape) != 2:
            raise CheckpointError(f"{part.name}: only adapters on linear layers and embeddings can be merged")
    _check_finite(*parts.values())
    return parts["A"], parts["B"]


def _check_finite(*stored: Stored) -> None:
    for part in stored:
        if not torch.isfinite(part.matrix()).all():
            raise CheckpointError(f"{part.name}: holds values that are not finite: the training diverged")


def _low_rank(config: Mapping[str, Any], module: str, parts: Mapping[str, Stored], *, embedding: bool) -> Change:
    (down, up), scaling = _pair(module, parts), Scaling(config)
    rank = scaling.rank(module)
    if (down.shape[0], up.shape[1]) != (rank, rank):
        raise CheckpointError(
            f"{module}: matrices of shape {list(down.shape)} and {list(up.shape)}, but {CONFIG_FILE} says rank {rank}"
        )
    delta = LowRank(down, up, scaling.scale(module), embedding, bool(config.get("fan_in_fan_out")))
    magnitude = parts.get("magnitude_vector")
    if bool(config.get("use_dora")) != (magnitude is not None):
        there = "no magnitudes are" if magnitude is None else "magnitudes are"
        message = f"{module}: {there} in the adapter, and {CONFIG_FILE} says use_dora {bool(config.get('use_dora'))}"
        raise CheckpointError(message, "the files are not of one adapter: copy both again")
    return delta if magnitude is None else Dora(delta, magnitude)


def _rows(config: Mapping[str, Any], module: str, values: Stored) -> Rows:
    indices = token_indices(config, module)
    if indices is None or (len(indices),) != values.shape[:1]:
        said = "none" if indices is None else str(len(indices))
        message = f"{module}: {values.shape[0]} trained rows, but trainable_token_indices of {CONFIG_FILE} names {said}"
        raise CheckpointError(message, "the files are not of one adapter: copy both again")
    _check_finite(values)
    return Rows(indices, values)
