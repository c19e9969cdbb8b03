"""Feed-forward layers with LoRA that keep nothing but their input for the backward pass.

torch keeps of `down(act(gate(x)) * up(x))` with LoRA on its three matrices the results of gate, act and up, their
product, and what enters each low-rank matrix. Here the input alone is kept, and the backward pass computes gate, act
and up again. The result of the large matrix of `down` is not needed for that, so it is not computed again where the
matrix is stored plainly.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.autograd.function import once_differentiable

from axo.errors import Finding, RecipeError

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
_PROBE_TOKENS = 2


def recompute_mlps(model: nn.Module) -> int:
    """Let all feed-forward layers with LoRA on gate, up and down recompute; returns how many do.

    Outputs are those of the modules, bit for bit. Raises RecipeError where the model has no such layer, or computes
    another function with them.
    """
    found = [module for module in model.modules() if _fits(module)]
    if not found:
        message = "no feed-forward layer of this model has plain LoRA without dropout on gate_proj, up_proj, down_proj"
        raise RecipeError([Finding("lora_mlp_kernel", message, "set lora_mlp_kernel: false")])
    checked: set[type[nn.Module]] = set()
    for mlp in found:
        if type(mlp) not in checked:
            _check_function(mlp)
            checked.add(type(mlp))
        mlp.forward = partial(_forward, mlp, mlp.forward)
    return len(found)


@torch.compiler.disable  # the backward pass of the function below is no graph
def _forward(mlp: nn.Module, plain: Any, hidden: torch.Tensor) -> torch.Tensor:
    """(..., D) -> (..., D)."""
    if not torch.is_grad_enabled():
        return plain(hidden)
    return _Recomputed.apply(mlp, plain, hidden, *_trained(mlp))  # pyright: ignore[reportReturnType]


class _Recomputed(torch.autograd.Function):
    """The trained matrices are arguments so that their gradients are accumulated as everywhere (DDP's hooks)."""

    @staticmethod
    def forward(ctx: Any, mlp: Any, plain: Any, hidden: torch.Tensor, *trained: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.mlp = mlp
        ctx.save_for_backward(hidden, *trained)
        kind = hidden.device.type
        ctx.autocast = {"enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}
        return plain(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, *trained = ctx.saved_tensors
        asked = ctx.needs_input_grad[2]
        with torch.enable_grad(), torch.autocast(hidden.device.type, **ctx.autocast):
            here = hidden.detach().requires_grad_(asked)
            gated = _gated(ctx.mlp, here)
            results, gradients = _through_down(ctx.mlp.down_proj, gated, gradient)
            inputs = [here, *trained] if asked else trained
            found = torch.autograd.grad(results, inputs, gradients)
        return (None, None, *found) if asked else (None, None, None, *found)


def _gated(mlp: Any, hidden: torch.Tensor) -> torch.Tensor:
    return mlp.act_fn(mlp.gate_proj(hidden)) * mlp.up_proj(hidden)


def _through_down(
    down: Any, gated: torch.Tensor, gradient: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Tensors, and their gradients, from which autograd goes on: the low-rank part, and what enters the layer."""
    base = down.base_layer
    if type(base) is not nn.Linear or base.weight.requires_grad:  # a quantised matrix knows its own backward pass
        return [down(gated)], [gradient]
    (name,) = down.active_adapters
    first, second = down.lora_A[name], down.lora_B[name]
    low = second(first(gated.to(first.weight.dtype))) * down.scaling[name]
    with torch.no_grad():
        through = torch.nn.functional.linear(gradient, base.weight.t())
    return [low, gated], [gradient.to(low.dtype), through.to(gated.dtype)]


def _trained(mlp: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in mlp.parameters() if parameter.requires_grad]


def _fits(module: nn.Module) -> bool:
    projections = [getattr(module, name, None) for name in PROJECTIONS]
    return hasattr(module, "act_fn") and all(map(_is_plain, projections)) and len(list(_others(module))) == 0


def _is_plain(projection: Any) -> bool:
    """One adapter, without dropout and variants such as DoRA."""
    return (
        isinstance(projection, LoraLayer)
        and len(projection.active_adapters) == 1
        and not projection.lora_variant
        and all(isinstance(dropout, nn.Identity) for dropout in projection.lora_dropout.values())
        and not any(projection.lora_bias.values())
    )


def _others(module: nn.Module) -> Iterator[str]:
    """Trained parameters that are no low-rank matrix."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and ".lora_A." not in name and ".lora_B." not in name:
            yield name


def _check_function(mlp: Any) -> None:
    """Raise RecipeError where the layer's forward is not down(act(gate) * up)."""
    weight = mlp.gate_proj.lora_A[mlp.gate_proj.active_adapters[0]].weight
    hidden = torch.linspace(-1, 1, _PROBE_TOKENS * weight.shape[1], device=weight.device).view(1, _PROBE_TOKENS, -1)
    base = mlp.gate_proj.base_layer.weight.dtype
    with torch.no_grad():
        hidden = hidden.to(base if base.is_floating_point else weight.dtype)
        own, here = mlp(hidden), mlp.down_proj(_gated(mlp, hidden))
    if own.shape != here.shape or not torch.allclose(own, here):
        message = f"{type(mlp).__name__} computes something else than down(act(gate) * up)"
        raise RecipeError([Finding("lora_mlp_kernel", message, "set lora_mlp_kernel: false")])
