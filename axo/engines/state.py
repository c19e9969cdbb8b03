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
from torch.distributed.tensor import DTensor, Replicate, Shard

from axo.engines.scaling import LossScaling
from axo.engines.shards import OPTIMIZER_KIND, WEIGHTS_KIND, Shards, local, part_of, part_on
from axo.errors import CheckpointError
from axo.optim import torchao

WEIGHTS = f"{WEIGHTS_KIND}.safetensors"
OPTIMIZER = f"{OPTIMIZER_KIND}.safetensors"
OPTIMIZER_SCALARS = f"{OPTIMIZER_KIND}.json"
KIND = "optimizer"
"""Under this name the files say which optimizer's state they hold."""
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
) -> list[Path]:
    """Write the files of a state that lies whole on this rank into `folder`, and return them."""
    parameters = trained_parameters(module)
    save_file({name: parameter.detach() for name, parameter in parameters.items()}, folder / WEIGHTS)
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            add(f"{name}/{key}", value, tensors, scalars)
    save_file(apart(tensors), folder / OPTIMIZER, metadata={KIND: kind_of(optimizer)})
    (folder / OPTIMIZER_SCALARS).write_text(json.dumps(scalars, indent=1))
    written = [folder / WEIGHTS, folder / OPTIMIZER, folder / OPTIMIZER_SCALARS]
    return written if scaling is None else [*written, scaling.save(folder)]


def load_state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    *,
    scaling: LossScaling | None = None,
    rank: int = 0,
) -> None:
    """Put a saved state back, whole or what of it lies on this rank. Raises CheckpointError where its names or shapes
    are not those of this run, or another optimizer left it."""
    parameters = trained_parameters(module)
    with Shards(folder, WEIGHTS_KIND, first=rank) as saved, torch.no_grad():
        _check_names(set(saved.tensors), set(parameters), folder)
        for name, parameter in parameters.items():
            _copy(parameter, saved, name=name)
    with Shards(folder, OPTIMIZER_KIND, first=rank) as saved:
        _check_kind(saved.facts.get(KIND), optimizer, folder)
        whole = (folder / OPTIMIZER_SCALARS).read_text() if saved.is_whole else None
        scalars = saved.facts["scalars"] if whole is None else json.loads(whole)
        made = [entry for entry, value in scalars.items() if isinstance(value, dict)]
        _refuse_made(made, parameters, saved, folder)
        for entry in (entry for entry in saved.tensors if entry.rpartition("/")[0] not in made):
            name, key = entry.rsplit("/", 1)
            value = _read(saved, entry, like=parameters[name])
            optimizer.state[parameters[name]][key] = _placed(value, parameters[name], optimizer)
        parts = {one: saved.read(one) for one in saved.tensors if one.rpartition("/")[0] in made}
        here = {entry: value for entry, value in scalars.items() if saved.is_whole or entry not in made}
        for entry, value in joined(parts, here):
            name, key = entry.rsplit("/", 1)
            optimizer.state[parameters[name]][key] = _placed(value, parameters[name], optimizer)
    if scaling is not None:
        scaling.load(folder)


def header_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def is_made(value: Any) -> bool:
    """A tensor that is made of others (torchao)."""
    return hasattr(value, "__tensor_flatten__") and not isinstance(value, DTensor)


def _refuse_made(made: list[str], parameters: dict[str, nn.Parameter], saved: Shards, folder: Path) -> None:
    """A state in 8 bits that lies whole cannot be split, and one in parts not be put together."""
    split = any(isinstance(parameters[entry.rsplit("/", 1)[0]], DTensor) for entry in made)
    if made and split == saved.is_whole:
        raise CheckpointError(
            f"{folder} holds optimizer state in 8 bits, whose blocks belong to the number of workers it was saved with",
            "resume with that number of workers and the same engine",
        )


def _read(saved: Shards, entry: str, *, like: nn.Parameter) -> torch.Tensor:
    """A tensor of the optimizer's state, split as it was where the parameter is split."""
    known = saved.tensors[entry]
    alike = known.shape == tuple(like.shape)
    if not isinstance(like, DTensor) or not (alike or known.dim is not None):
        return saved.read(entry)
    placements = like.placements if alike else [*[Replicate()] * (like.device_mesh.ndim - 1), Shard(known.dim or 0)]
    shape = torch.Size(known.shape)
    part = part_on(like.device_mesh, shape, placements)
    value = saved.read(entry, part).to(local(like).device)
    return DTensor.from_local(
        value,
        like.device_mesh,
        placements,
        run_check=False,
        shape=shape,
        stride=torch.empty(shape, device="meta").stride(),
    )


def add(entry: str, value: Any, tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> None:
    """A tensor that is made of others (torchao) goes by its parts, with what they mean among the scalars."""
    if not isinstance(value, torch.Tensor):
        scalars[entry] = value
    elif is_made(value):
        parts, context = value.__tensor_flatten__()  # type: ignore[attr-defined]
        tensors.update({f"{entry}/{part}": getattr(value, part) for part in parts})
        scalars[entry] = {"kind": type(value).__name__, "parts": parts, "context": [_to_json(item) for item in context]}
    else:
        tensors[entry] = value


def joined(tensors: dict[str, torch.Tensor], scalars: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What `add` took apart."""
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


def apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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
    if not isinstance(value, torch.Tensor) or isinstance(value, DTensor) or parameter.device.type == "cpu":
        return value
    if getattr(optimizer, "is_paged", False) and value.shape == parameter.shape:
        buffer: torch.Tensor = optimizer.get_state_buffer(parameter, dtype=value.dtype)  # type: ignore[attr-defined]
        return buffer.copy_(value)
    group = next(group for group in optimizer.param_groups if any(one is parameter for one in group["params"]))
    return value.to(parameter.device) if value.ndim or group.get("fused") or group.get("capturable") else value


def kind_of(optimizer: torch.optim.Optimizer) -> str:
    """Such as `torch.AdamW`: fused or not, its state is the same."""
    return f"{type(optimizer).__module__.partition('.')[0]}.{type(optimizer).__name__}"


def _check_kind(saved: str | None, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    if saved is not None and saved != kind_of(optimizer):
        raise CheckpointError(
            f"{folder} was made with the optimizer {saved}, this run has {kind_of(optimizer)}",
            "resume with the packages and the recipe that the checkpoint was made with",
        )


def _copy(parameter: nn.Parameter, saved: Shards, *, name: str) -> None:
    entry, dtype = saved.tensors[name], str(parameter.dtype).removeprefix("torch.")
    if entry.shape != tuple(parameter.shape) or entry.dtype != dtype:
        raise CheckpointError(
            f"{name} is {entry.shape} {entry.dtype} in the checkpoint and {tuple(parameter.shape)} {dtype} in this run",
            _AGAIN,
        )
    local(parameter).copy_(saved.read(name, part_of(parameter)))


def _check_names(saved: set[str], expected: set[str], folder: Path) -> None:
    if saved != expected:
        raise CheckpointError(
            f"{folder} holds other trained weights than this run: {len(saved - expected)} unknown, "
            f"{len(expected - saved)} missing, e.g. {sorted(saved ^ expected)[0]}",
            _AGAIN,
        )
