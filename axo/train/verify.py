"""Reads back what stands in saved safetensors files, and compares it with what the model must have.

Others write models that lack their weights and call it a success: under sharding a wrong save is small, not loud."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.core_model_loading import revert_weight_conversion

from axo.errors import CheckpointError

Tensors = dict[str, tuple[tuple[int, ...], str]]
"""Name -> shape and number format, as safetensors names it."""
MODEL_FILES, ADAPTER_FILES = "model*.safetensors", "adapter_model.safetensors"
_INDEX = "model.safetensors.index.json"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FORMATS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


def check_model(folder: Path, model: nn.Module) -> None:
    """Compare the model in `folder` with the trained one, whose weights may be split or elsewhere: names, shapes,
    number formats and byte counts. Raises CheckpointError that names what differs."""
    expected, tied = expected_model(model)
    found = read_headers(folder, MODEL_FILES)
    _check_index(folder)
    compare(folder, found, expected, tied=tied)


def check_adapter(folder: Path, model: nn.Module, *, rank_factor: int = 1) -> None:
    """The same for a peft adapter; `rank_factor`: its matrices are saved with so many times their rank."""
    from axo.adapters.saved_names import saved_tensors  # peft is imported for adapters alone

    trained = {name: blank(one) for name, one in model.named_parameters() if one.requires_grad}
    blanks = {name: blank(one) for name, one in _named(model)}
    named = saved_tensors(model, blanks)
    expected = {name: described(value) for name, value in named.items()}
    expected = {name: (_more_rank(name, shape, rank_factor), dtype) for name, (shape, dtype) in expected.items()}
    numbers = sum(math.prod(shape) for shape, _ in expected.values())
    lost = [name for name in trained if not any(value is blanks[name] for value in named.values())]
    if lost or not numbers:
        raise CheckpointError(f"{folder}: peft saves no {lost[0] if lost else 'weights'} of the adapter")
    compare(folder, read_headers(folder, ADAPTER_FILES), expected, tied=())


def compare(folder: Path, found: Tensors, expected: Tensors, *, tied: Sequence[frozenset[str]]) -> None:
    """Raise CheckpointError where files hold other tensors than `expected`. Of tied names one is enough."""
    several = {name: names for names in tied for name in names}
    wrong: list[str] = []
    for name in sorted(expected.keys() | found.keys()):
        names = several.get(name, frozenset({name}))
        there = next((found[one] for one in sorted(names) if one in found), None)
        wanted = next((expected[one] for one in sorted(names) if one in expected), None)
        if there is None:
            wrong.append(f"{name} is missing")
        elif wanted is None:
            wrong.append(f"{name} is unknown")
        elif there != wanted:
            wrong.append(f"{name} is {there[1]} {there[0]}, expected {wanted[1]} {wanted[0]}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{folder}: what was saved is not what was trained: {'; '.join(wrong[:3])}{more}",
            "the checkpoints saved before are whole; report this with the recipe",
        )


def expected_model(model: nn.Module) -> tuple[Tensors, list[frozenset[str]]]:
    """What transformers' files of a model hold, and which of the names stand for one tensor."""
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    groups: dict[int, list[str]] = {}
    blanks: dict[str, torch.Tensor] = {}
    for name, tensor in _named(model):
        if name not in ignored:
            groups.setdefault(id(tensor), []).append(name)
            blanks[name] = blank(tensor)
    for names in groups.values():
        for name in names[1:]:
            del blanks[name]
    saved = revert_weight_conversion(model, blanks)  # type: ignore[arg-type] - any transformers model
    tied = [frozenset(names) for names in groups.values() if len(names) > 1]
    return {name: described(value) for name, value in saved.items()}, tied


def read_headers(folder: Path, pattern: str) -> Tensors:
    """All tensors of files, from their headers. Raises CheckpointError where there is no file, or one has other bytes
    than its header says."""
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise CheckpointError(f"{folder}: {pattern} is missing: no weights were saved")
    found: Tensors = {}
    for path in paths:
        found |= _read_header(path)
    return found


def blank(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor without values: of one that is split among ranks, here or by DeepSpeed."""
    return torch.empty(tuple(getattr(tensor, "ds_shape", tensor.shape)), dtype=tensor.dtype, device="meta")


def described(tensor: torch.Tensor) -> tuple[tuple[int, ...], str]:
    return tuple(tensor.shape), _FORMATS[tensor.dtype]


def _named(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Parameters and buffers that a state dict has; tied ones under each of their names."""
    kept = model.state_dict().keys()
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return [(name, tensor) for name, tensor in every if name in kept]


def _more_rank(name: str, shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    if ".lora_A." in name:
        return (shape[0] * factor, *shape[1:])
    return (shape[0], shape[1] * factor, *shape[2:]) if ".lora_B." in name else shape


def _read_header(path: Path) -> Tensors:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(file.read(length)) if length <= size - 8 else {}
        except ValueError:
            header = {}
    header.pop("__metadata__", None)
    _check_bytes(path, header, data=size - 8 - length)
    return {name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in header.items()}


def _check_bytes(path: Path, header: Mapping[str, Any], *, data: int) -> None:
    for name, entry in header.items():
        (begin, end), shape = entry["data_offsets"], entry["shape"]
        if entry["dtype"] in _BYTES and end - begin != math.prod(shape) * _BYTES[entry["dtype"]]:
            raise CheckpointError(f"{path}: {name} has {end - begin} bytes, which do not fit its shape {shape}")
    told = sum(end - begin for begin, end in (entry["data_offsets"] for entry in header.values()))
    if told != data or not header:
        raise CheckpointError(f"{path} holds {data} bytes of weights, its header tells of {told}")


def _check_index(folder: Path) -> None:
    """Where the model lies in several files, the index names the file of each tensor."""
    if not (folder / _INDEX).exists():
        return
    named: dict[str, str] = json.loads((folder / _INDEX).read_text())["weight_map"]
    there = {name: path.name for path in folder.glob(MODEL_FILES) for name in _read_header(path)}
    if named != there:
        wrong = sorted(name for name in named.keys() | there.keys() if named.get(name) != there.get(name))
        raise CheckpointError(f"{folder / _INDEX} names other files than hold the weights, e.g. of {wrong[0]}")
