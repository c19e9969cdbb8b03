"""How many workers train together, and which engine runs their steps."""

from __future__ import annotations

from typing import Any, Literal

from axo.errors import Finding, RecipeError
from axo.plan.deepspeed import plan_deepspeed
from axo.plan.facts import Facts
from axo.plan.fsdp import plan_fsdp
from axo.plan.plan import BatchPlan, DDPPlan, Decision, EnginePlan, PrecisionPlan, decision
from axo.plan.words import amount
from axo.recipe.recipe import Recipe


def plan_workers(recipe: Recipe, facts: Facts, decisions: list[Decision]) -> EnginePlan:
    """Workers of all nodes and the engine's name; its own settings follow in plan_engine."""
    hardware, cluster = facts.hardware, facts.cluster
    devices = len(hardware.devices)
    asked = recipe.engines.world_size
    a_node = cluster.workers_a_node or asked or max(devices, 1)
    if devices and a_node > devices:
        message = f"{amount(a_node, 'worker')} for {amount(devices, 'GPU')}"
        raise RecipeError([Finding("world_size", message, "one worker needs one GPU: lower world_size")])
    world_size = a_node * cluster.num_nodes
    name = _name(recipe, world_size)
    why = amount(devices, "GPU") if devices else f"no GPU, {hardware.cpu_count} CPUs"
    if cluster.num_nodes > 1:
        why = f"{cluster.num_nodes} nodes ({cluster.found_in}) x {amount(a_node, 'worker')}; here {why}"
    decisions.append(decision("world_size", asked, f"{world_size} ({name})", why))
    return EnginePlan(
        name=name,
        device="cuda" if devices else "cpu",
        world_size=world_size,
        num_nodes=cluster.num_nodes,
        threads=hardware.num_threads or max(1, hardware.cpu_count // a_node),
        timeout_seconds=recipe.engines.ddp_timeout,
        max_restarts=recipe.engines.max_restarts,
        hang_timeout_seconds=recipe.engines.hang_timeout,
    )


def plan_engine(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, batch: BatchPlan,
    decisions: list[Decision],
) -> EnginePlan:  # fmt: skip
    """The same workers with what their engine needs to know. Raises RecipeError for what it cannot do."""
    settings: dict[str, Any] = {}
    if engine.name == "ddp":
        settings["ddp"] = DDPPlan(find_unused_parameters=bool(recipe.engines.ddp_find_unused_parameters))
    elif engine.name == "fsdp":
        settings["fsdp"] = plan_fsdp(recipe, facts, engine, precision, decisions)
    elif engine.name == "deepspeed":
        settings["deepspeed"] = plan_deepspeed(recipe, facts, engine, precision, batch, decisions)
    return engine.model_copy(update=settings)


def _name(recipe: Recipe, world_size: int) -> Literal["single", "ddp", "fsdp", "deepspeed"]:
    section = recipe.engines
    if section.deepspeed is not None:
        return "deepspeed"
    sharded = section.fsdp_config is not None or (section.dp_shard_size or 1) > 1
    if sharded and world_size > 1:
        return "fsdp"
    return "single" if world_size == 1 else "ddp"
