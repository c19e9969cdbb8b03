"""Recomputing layers in the backward pass instead of keeping their activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from axo.errors import Finding, RecipeError
from axo.plan.plan import RecomputePlan

ATTENTION = "attention"
ATTENTION_OPERATORS = (
    "scaled_dot_product", "_flash_attention_forward", "_efficient_attention_forward", "flash_attn", "varlen_attn",
    "xformers::efficient_attention", "xformers_flash",
)  # fmt: skip
"""Parts of the names of operators that compute attention: torch's own, and those of flash-attn and xformers."""


def enable_recompute(model: Any, plan: RecomputePlan) -> None:
    """Switch recomputation on as the Plan says, for a transformers model or a peft model around one.

    It is always the non-reentrant kind: gradients then reach adapters although nothing that enters a layer requires
    one (frozen embeddings), and each parameter is visited once (DDP). Raises RecipeError where the model has no layers
    that can be recomputed, or an operator to be kept is none of torch's.
    """
    if plan.every is None:
        return
    arguments: dict[str, Any] = {"use_reentrant": False}
    if plan.keep:
        arguments["context_fn"] = _keeping(plan.keep)
    try:
        model.activation_checkpointing_enable(arguments, every_n_layers=plan.every, offload=plan.offload)
    except ValueError as error:
        message = f"the layers of this model cannot be recomputed: {error}"
        raise RecipeError([Finding("gradient_checkpointing", message, "set gradient_checkpointing: false")]) from error
    if plan.keep:
        _keep_nothing(model, plan.keep_nothing_in)


def _keeping(names: Iterable[str]) -> Callable[[], Any]:
    """Contexts of torch's checkpoint function that keep the results of the operators with such names."""
    parts = tuple(part for name in names for part in (ATTENTION_OPERATORS if name == ATTENTION else (name,)))

    def policy(context: Any, operator: Any, *arguments: Any, **others: Any) -> CheckpointPolicy:
        del context, arguments, others
        name = operator.name() if isinstance(operator, torch._ops.OpOverload) else str(operator)
        kept = any(part in name for part in parts)
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return partial(create_selective_checkpoint_contexts, policy)


def _keep_nothing(model: Any, types: Iterable[str]) -> None:
    """Layers of these types are recomputed whole."""
    whole = partial(checkpoint, use_reentrant=False)
    named = set(types)
    for layer in decoder_layers(model):
        if _type_of(layer, model) in named:
            layer._gradient_checkpointing_func = whole


def decoder_layers(model: Any) -> list[Any]:
    """The repeated layers, each of which transformers can recompute."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _type_of(layer: Any, model: Any) -> str | None:
    """What the config's layer_types says of the layer."""
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None)
    index = next((m.layer_idx for m in layer.modules() if isinstance(getattr(m, "layer_idx", None), int)), None)
    return types[index] if types and index is not None else None
