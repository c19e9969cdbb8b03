"""Each decoder layer is compiled by torch on its own; attention stays outside of its graphs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from axo.errors import Finding, HardwareError, RecipeError
from axo.model.recompute import decoder_layers

CPP_COMPILERS = ("g++", "clang++", "c++")


def compile_layers(model: Any, settings: Mapping[str, Any]) -> None:
    """Compile in place, with `settings` for torch.compile; names of modules and parameters stay as they are.

    Layers of one class share their graphs. A recomputed layer is compiled inside its recomputation: torch leaves a
    layer alone whose graph would break there. Raises RecipeError where the model has no layers that are known, and
    HardwareError where a CPU's code cannot be compiled.
    """
    layers = decoder_layers(model)
    if not layers:
        message = f"the layers of {type(model).__name__} are not known to transformers, so there is nothing to compile"
        raise RecipeError([Finding("torch_compile", message, "set torch_compile: false")])
    _check_compiler(model, settings)
    _attention_outside(model)
    compiled: dict[Callable[..., Any], Callable[..., Any]] = {}
    for layer in layers:
        if layer.gradient_checkpointing:
            layer._gradient_checkpointing_func = _inside(layer._gradient_checkpointing_func, compiled, settings)
        else:
            layer.compile(**settings)


def _inside(
    recomputing: Callable[..., Any],
    compiled: dict[Callable[..., Any], Callable[..., Any]],
    settings: Mapping[str, Any],
) -> Callable[..., Any]:
    """`recomputing` of a layer, which gets the layer's forward as functools.partial (GradientCheckpointingLayer)."""

    def run(function: partial[Any], *arguments: Any) -> Any:
        forward = compiled.get(function.func)
        if forward is None:
            forward = compiled[function.func] = torch.compile(function.func, **settings)
        return recomputing(partial(forward, *function.args, **function.keywords), *arguments)

    return run


def _attention_outside(model: Any) -> None:
    """axo's attention reads lengths of samples, by which a graph would break in its middle, for each batch anew."""
    name = model.config.get_text_config(decoder=True)._attn_implementation
    function = ALL_ATTENTION_FUNCTIONS.get(name)
    if function is not None and function.__module__.startswith("axo."):
        AttentionInterface.register(name, torch.compiler.disable(function))


def _check_compiler(model: Any, settings: Mapping[str, Any]) -> None:
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu and settings.get("backend") == "inductor" and not any(map(shutil.which, CPP_COMPILERS)):
        raise HardwareError(
            f"torch_compile on a CPU needs a C++ compiler, and there is none of {', '.join(CPP_COMPILERS)}",
            "install one, or set torch_compile: false",
        )
