"""Proof that FSDP2 split what it was to split: nothing here changes anything, all of it may refuse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from axo.engines import state
from axo.errors import LaunchError, TrainingError
from axo.model.quantize import quantised_layers
from axo.plan.plan import FSDPPlan

_REPORT = "training would need the memory of a model that is not split; please report it with the versions of torch"


def kept_whole(module: nn.Module) -> set[nn.Parameter]:
    """Parameters that cannot be split: weights of 8 bits, whose scales stand beside them and not in them."""
    layers = quantised_layers(module).values()
    return {layer.weight for layer in layers if type(layer).__name__ == "Linear8bitLt"}  # type: ignore[misc]


def check_equal(module: nn.Module, *, gather: Callable[[Sequence[float]], list[list[float]]]) -> None:
    """Each rank keeps its part of what it has itself, so what is trained must begin equal. Raises TrainingError."""
    parameters = state.trained_parameters(module)
    rows = gather([float(parameter.detach().sum(dtype=torch.float64)) for parameter in parameters.values()])
    for name, *sums in zip(parameters, *rows, strict=True):
        if any(one != sums[0] and one == one for one in sums):
            ranks = ", ".join(str(rank) for rank, one in enumerate(sums) if one != sums[0])
            message = f"{name} begins with other values on rank {ranks} than on rank 0"
            raise TrainingError(message, "check that base_model and lora_model_dir are the same files on all nodes")


def check_sharded(module: nn.Module, *, settings: FSDPPlan, whole: Collection[nn.Parameter]) -> None:
    """Every parameter is in parts, has values, and lies here to 1/shard (rounded up to whole rows). Raises
    LaunchError."""
    kept = {id(parameter) for parameter in whole}
    for name, parameter in module.named_parameters():
        if id(parameter) in kept:
            continue
        if not isinstance(parameter, DTensor):
            raise LaunchError(f"FSDP did not take effect: {name} is not split among workers", _REPORT)
        if parameter.is_meta:
            raise LaunchError(f"FSDP left {name} without values", _REPORT)
        allowed = -(-len(parameter) // settings.shard) * (parameter.numel() // max(len(parameter), 1))
        if parameter.to_local().numel() > allowed:
            local = parameter.to_local().numel()
            message = f"FSDP did not take effect: {local} of {parameter.numel()} numbers of {name} lie on one worker"
            raise LaunchError(f"{message}, at most {allowed} were expected", _REPORT)


def check_state(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """State as large as its parameter is in parts, as the parameter is. Raises LaunchError."""
    for parameter in parameters:
        for key, value in optimizer.state.get(parameter, {}).items():
            whole = isinstance(value, torch.Tensor) and not isinstance(value, DTensor) and value.ndim > 0
            if whole and value.numel() > parameter.to_local().numel():  # type: ignore[attr-defined]
                message = f"the optimizer keeps {key} whole on each worker, {tuple(value.shape)}"
                raise LaunchError(message, f"its parameter is split; {_REPORT}")
