"""What is recomputed in the backward pass, or held outside the device until then."""

from __future__ import annotations

from axo.plan.plan import Decision, EnginePlan, RecomputePlan
from axo.recipe.recipe import Recipe


def plan_recompute(recipe: Recipe, engine: EnginePlan, decisions: list[Decision]) -> RecomputePlan:
    """Which layers are recomputed; what was decided is added to `decisions`."""
    del engine, decisions
    return RecomputePlan(every=1 if recipe.precision.gradient_checkpointing else None)
