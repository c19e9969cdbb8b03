"""Trained weights and optimizer state that are split among ranks: every rank writes and reads its own part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from axo.engines import state
from axo.engines.scaling import LossScaling
from axo.engines.shards import OPTIMIZER_KIND, WEIGHTS_KIND, local, write_shard
from axo.errors import CheckpointError
from axo.types import Layout

OWN = "own-{rank:05d}-of-{world_size:05d}.safetensors"
"""State that is made of other tensors (torchao's 8 bits): its blocks are those of one rank's part."""


def save_state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    *,
    layout: Layout,
    scaling: LossScaling | None = None,
) -> list[Path]:
    """Write this rank's files into `folder`, and return them; nothing is sent or gathered."""
    place: dict[str, Any] = {"rank": layout.rank, "world_size": layout.world_size}
    parameters = state.trained_parameters(module)
    written = write_shard(parameters, folder, kind=WEIGHTS_KIND, **place)
    tensors: dict[str, torch.Tensor] = {}
    own: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            made = isinstance(value, torch.Tensor) and state.is_made(local(value))
            state.add(f"{name}/{key}", local(value) if made else value, own if made else tensors, scalars)
    facts = {state.KIND: state.kind_of(optimizer), "scalars": scalars}
    written += write_shard(tensors, folder, kind=OPTIMIZER_KIND, **place, **facts)
    if own:
        written.append(folder / OWN.format(**place))
        save_file(state.apart(own), written[-1], metadata={"scalars": json.dumps(scalars)})
    if scaling is not None and layout.rank == 0:
        written.append(scaling.save(folder))
    return written


def load_state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    *,
    layout: Layout,
    scaling: LossScaling | None = None,
) -> None:
    """Put a saved state back, of any number of ranks, or of an engine that holds all on each.

    Raises CheckpointError where its names or shapes are not those of this run, another optimizer left it, or parts of
    it are in no file."""
    state.load_state(module, optimizer, folder, scaling=scaling, rank=layout.rank)
    _load_own(module, optimizer, folder, layout=layout)


def _load_own(module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, *, layout: Layout) -> None:
    """Put back what each rank keeps in blocks of its own."""
    if not any(folder.glob("own-*")):
        return
    path = folder / OWN.format(rank=layout.rank, world_size=layout.world_size)
    if not path.exists():
        saved = len([*folder.glob("own-*")])
        raise CheckpointError(
            f"{folder} holds optimizer state in 8 bits of {saved} workers, whose blocks cannot be split among "
            f"{layout.world_size}",
            f"resume with {saved} workers",
        )
    scalars = json.loads(state.header_of(path)["scalars"])
    parameters = state.trained_parameters(module)
    for entry, value in state.joined(load_file(path), scalars):
        name, key = entry.rsplit("/", 1)
        parameter = parameters[name]
        if state.is_made(value):
            optimizer.state[parameter][key] = _as_part(value.to(local(parameter).device), parameter)


def _as_part(value: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """A rank's tensor as its part of one that is split as the parameter is."""
    if not isinstance(parameter, DTensor):
        return value
    return DTensor.from_local(value, parameter.device_mesh, parameter.placements, run_check=False)
