"""In how many bits the frozen base is stored."""

from __future__ import annotations

from axo.plan.facts import Facts
from axo.plan.plan import Decision, EnginePlan, PrecisionPlan, QuantizationPlan
from axo.recipe.recipe import Recipe


def plan_quantization(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, decisions: list[Decision]
) -> QuantizationPlan:
    """How the base is quantised; what was decided is added to `decisions`."""
    del recipe, facts, engine, precision, decisions
    return QuantizationPlan()
