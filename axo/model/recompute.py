"""Recomputing each layer in the backward pass instead of keeping its activations."""

from __future__ import annotations

from typing import Any

from axo.errors import Finding, RecipeError
from axo.plan.plan import RecomputePlan


def enable_recompute(model: Any, plan: RecomputePlan) -> None:
    """Switch recomputation on as the Plan says, for a transformers model or a peft model around one.

    It is always the non-reentrant kind: gradients then reach adapters although nothing that enters a layer requires
    one (frozen embeddings), and each parameter is visited once (DDP). Raises RecipeError where the model has no layers
    that can be recomputed.
    """
    if plan.every is None:
        return
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        message = f"the layers of this model cannot be recomputed: {error}"
        raise RecipeError([Finding("gradient_checkpointing", message, "set gradient_checkpointing: false")]) from error
