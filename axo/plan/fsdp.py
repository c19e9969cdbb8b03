"""How FSDP2 splits a model: the Plan's answers to fsdp_config, dp_shard_size and dp_replicate_size."""

from __future__ import annotations

from axo.plan.facts import Facts
from axo.plan.plan import Decision, EnginePlan, FSDPPlan, PrecisionPlan
from axo.recipe.recipe import Recipe


def plan_fsdp(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, decisions: list[Decision]
) -> FSDPPlan:
    """Settings of the engine; each decision is added to `decisions`."""
    del facts, precision, decisions
    replicate = recipe.engines.dp_replicate_size or 1
    return FSDPPlan(shard=engine.world_size // replicate, replicate=replicate)
