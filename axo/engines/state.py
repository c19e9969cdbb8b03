"""Trained weights and optimizer state as safetensors and JSON, by parameter name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from axo.engines.scaling import LossScaling
from axo.errors import CheckpointError
from axo.optim import torchao

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
OPTIMIZER_SCALARS = "optimizer.json"
_KIND = "optimizer"
_AGAIN = "resume with the recipe that the checkpoint was made with"


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that receive gradients, by name; a tied one stands once."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def named_weights(module: nn.Module, *, trained_only: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of a module that lies whole on this rank."""
    trained = trained_parameters(module)
    values = module.state_dict()
    yield from ((name, values[name]) for name in (trained if trained_only else values))


def save_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, *, scaling: LossScaling | None = None
) -> None:
    """Write the files of a state into `folder`."""
    parameters = trained_parameters(module)
    save_file({name: parameter.detach() for name, parameter in parameters.items()}, folder / WEIGHTS)
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            _add(f"{name}/{key}", value, tensors, scalars)
    save_file(_apart(tensors), folder / OPTIMIZER, metadata={_KIND: _kind(optimizer)})
    (folder / OPTIMIZER_SCALARS).write_text(json.dumps(scalars, indent=1))
    if scaling is not None:
        scaling.save(folder)


def load_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, *, scaling: LossScaling | None = None
) -> None:
    """Put a saved state back. Raises CheckpointError where its names or shapes are not those of this run, or another
    optimizer left it."""
    parameters = trained_parameters(module)
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        _check_names(set(file.keys()), set(parameters), folder)
        with torch.no_grad():
            for name, parameter in parameters.items():
                _copy(parameter, file.get_tensor(name), name=name)
    with safe_open(folder / OPTIMIZER, framework="pt") as file:
        _check_kind((file.metadata() or {}).get(_KIND), optimizer, folder)
        tensors = {entry: file.get_tensor(entry) for entry in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    for entry, value in _joined(tensors, json.loads((folder / OPTIMIZER_SCALARS).read_text())):
        name, key = entry.rsplit("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][key] = _placed(value, parameter, optimizer)
    if scaling is not None:
        scaling.load(folder)


def _add(entry: str, value: Any, tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> None:
    """A tensor that is made of others (torchao) goes by its parts, with what they mean among the scalars."""
    if not isinstance(value, torch.Tensor):
        scalars[entry] = value
    elif hasattr(value, "__tensor_flatten__"):
        parts, context = value.__tensor_flatten__()  # type: ignore[attr-defined]
        tensors.update({f"{entry}/{part}": getattr(value, part) for part in parts})
        scalars[entry] = {"kind": type(value).__name__, "parts": parts, "context": [_to_json(item) for item in context]}
    else:
        tensors[entry] = value


def _joined(tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What `_add` took apart."""
    made: set[str] = set()
    for entry, value in scalars.items():
        if isinstance(value, dict):
            parts = {part: tensors[f"{entry}/{part}"] for part in value["parts"]}
            made.update(f"{entry}/{part}" for part in parts)
            context = [_from_json(item) for item in value["context"]]
            yield entry, torchao.state_class(value["kind"]).__tensor_unflatten__(parts, context)
        else:
            yield entry, value
    yield from ((entry, tensor) for entry, tensor in tensors.items() if entry not in made)


def _to_json(item: Any) -> Any:
    if isinstance(item, torch.dtype):
        return {"dtype": str(item).removeprefix("torch.")}
    return list(item) if isinstance(item, torch.Size | tuple) else item


def _from_json(item: Any) -> Any:
    if isinstance(item, dict):
        return getattr(torch, item["dtype"])
    return torch.Size(item) if isinstance(item, list) else item


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tables that several states share (bitsandbytes' maps of 8-bit codes) once for each, as the file wants them."""
    seen: set[int] = set()
    result: dict[str, torch.Tensor] = {}
    for entry, tensor in tensors.items():
        place = tensor.data_ptr()
        result[entry] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    return result


def _placed(value: Any, parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> Any:
    """Beside its parameter; a step count only where the optimizer counts on the device; in paged memory where the
    optimizer keeps it there."""
    if not isinstance(value, torch.Tensor) or parameter.device.type == "cpu":
        return value
    if getattr(optimizer, "is_paged", False) and value.shape == parameter.shape:
        buffer: torch.Tensor = optimizer.get_state_buffer(parameter, dtype=value.dtype)  # type: ignore[attr-defined]
        return buffer.copy_(value)
    group = next(group for group in optimizer.param_groups if any(one is parameter for one in group["params"]))
    return value.to(parameter.device) if value.ndim or group.get("fused") or group.get("capturable") else value


def _kind(optimizer: torch.optim.Optimizer) -> str:
    """Such as `torch.AdamW`: fused or not, its state is the same."""
    return f"{type(optimizer).__module__.partition('.')[0]}.{type(optimizer).__name__}"


def _check_kind(saved: str | None, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    if saved is not None and saved != _kind(optimizer):
        raise CheckpointError(
            f"{folder} was made with the optimizer {saved}, this run has {_kind(optimizer)}",
            "resume with the packages and the recipe that the checkpoint was made with",
        )


def _copy(parameter: nn.Parameter, saved: torch.Tensor, *, name: str) -> None:
    if saved.shape != parameter.shape or saved.dtype != parameter.dtype:
        raise CheckpointError(
            f"{name} is {tuple(saved.shape)} {saved.dtype} in the checkpoint and {tuple(parameter.shape)} "
            f"{parameter.dtype} in this run",
            _AGAIN,
        )
    parameter.copy_(saved)


def _check_names(saved: set[str], expected: set[str], folder: Path) -> None:
    if saved != expected:
        raise CheckpointError(
            f"{folder} holds other trained weights than this run: {len(saved - expected)} unknown, "
            f"{len(expected - saved)} missing, e.g. {sorted(saved ^ expected)[0]}",
            _AGAIN,
        )
