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

from axo.errors import CheckpointError

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
OPTIMIZER_SCALARS = "optimizer.json"


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that receive gradients, by name; a tied one stands once."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def save_state(module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the three files of a state into `folder`."""
    parameters = trained_parameters(module)
    save_file({name: parameter.detach() for name, parameter in parameters.items()}, folder / WEIGHTS)
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, key, value in _optimizer_entries(parameters, optimizer):
        if isinstance(value, torch.Tensor):
            tensors[f"{name}/{key}"] = value
        else:
            scalars[f"{name}/{key}"] = value
    save_file(tensors, folder / OPTIMIZER)
    (folder / OPTIMIZER_SCALARS).write_text(json.dumps(scalars, indent=1))


def load_state(module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Put a saved state back. Raises CheckpointError where its names or shapes are not those of this run."""
    parameters = trained_parameters(module)
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        _check_names(set(file.keys()), set(parameters), folder)
        with torch.no_grad():
            for name, parameter in parameters.items():
                _copy(parameter, file.get_tensor(name), name=name)
    for name, key, value in _saved_entries(folder):
        parameter = parameters[name]
        if isinstance(value, torch.Tensor) and value.ndim:
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value


def _optimizer_entries(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, str, Any]]:
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            yield name, key, value


def _saved_entries(folder: Path) -> Iterator[tuple[str, str, Any]]:
    with safe_open(folder / OPTIMIZER, framework="pt") as file:
        for entry in file.keys():  # noqa: SIM118 - safe_open is no mapping
            name, key = entry.rsplit("/", 1)
            yield name, key, file.get_tensor(entry)
    for entry, value in json.loads((folder / OPTIMIZER_SCALARS).read_text()).items():
        name, key = entry.rsplit("/", 1)
        yield name, key, value


def _copy(parameter: nn.Parameter, saved: torch.Tensor, *, name: str) -> None:
    if saved.shape != parameter.shape or saved.dtype != parameter.dtype:
        raise CheckpointError(
            f"{name} is {tuple(saved.shape)} {saved.dtype} in the checkpoint and {tuple(parameter.shape)} "
            f"{parameter.dtype} in this run",
            "resume with the recipe that the checkpoint was made with",
        )
    parameter.copy_(saved)


def _check_names(saved: set[str], expected: set[str], folder: Path) -> None:
    if saved != expected:
        raise CheckpointError(
            f"{folder} holds other trained weights than this run: {len(saved - expected)} unknown, "
            f"{len(expected - saved)} missing, e.g. {sorted(saved ^ expected)[0]}",
            "resume with the recipe that the checkpoint was made with",
        )
