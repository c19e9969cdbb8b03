"""Experts of a mixture in 4 bits: a layer holds all of them in one parameter, which is no linear layer."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from axo.errors import TrainingError

_DIMENSIONS = 3
"""Experts, outputs, inputs."""


def quantize_experts(model: Any, *, quant_type: str, double_quant: bool) -> None:
    """Replace every parameter of three dimensions by its packed form, which is unpacked whenever it is read.

    Uses bitsandbytes' own parametrisation on this model's modules. Raises TrainingError where there is none."""
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    places = [
        (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == _DIMENSIONS and parameter.is_floating_point()
    ]
    if not places:
        message = f"the Plan says quantize_moe_experts, but a {type(model).__name__} has no experts in one parameter"
        raise TrainingError(message, "remove quantize_moe_experts")
    for module, name in places:
        module.requires_grad_(False)
        replace_parameter_4bit(module, name, compress_statistics=double_quant, quant_type=quant_type)  # pyright: ignore[reportArgumentType]


def packed_experts(model: torch.nn.Module) -> dict[str, int]:
    """Names of packed parameters -> how many numbers each stands for."""
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if type(module).__name__ == "Bnb4bitParametrization":
            state: Any = module.quant_state
            found[f"{name.rpartition('.')[0]}.original"] = prod(state.shape)
    return found
