"""How many workers train together, and which engine runs their steps."""

from __future__ import annotations

from typing import Any, Literal

from axo.errors import Finding, RecipeError
from axo.plan.cluster import Cluster
from axo.plan.deepspeed import plan_deepspeed
from axo.plan.facts import Facts
from axo.plan.fsdp import plan_fsdp
from axo.plan.fsdp_sizes import unsplit
from axo.plan.plan import BatchPlan, DDPPlan, Decision, EnginePlan, PrecisionPlan, decision
from axo.plan.words import amount
from axo.recipe.recipe import Recipe


def plan_workers(recipe: Recipe, facts: Facts, decisions: list[Decision]) -> EnginePlan:
    """Workers of all nodes and the engine's name; its own settings follow in plan_engine."""
    hardware, cluster = facts.hardware, facts.cluster
    devices = len(hardware.devices)
    asked = recipe.engines.world_size
    _check_launcher(asked, cluster)
    a_node = cluster.workers_a_node or asked or max(devices, 1)
    if devices and a_node > devices:
        message = f"{amount(a_node, 'worker')} for {amount(devices, 'GPU')}"
        who = f"start fewer ({cluster.found_in})" if cluster.workers_a_node else "lower world_size"
        raise RecipeError([Finding("world_size", message, f"one worker needs one GPU: {who}")])
    world_size = a_node * cluster.num_nodes
    name = _name(recipe, world_size)
    why = amount(devices, "GPU") if devices else f"no GPU, {hardware.cpu_count} CPUs"
    if cluster.num_nodes > 1:
        why = f"{cluster.num_nodes} nodes ({cluster.found_in}) x {amount(a_node, 'worker')}; here {why}"
    elif cluster.workers_a_node:
        why = f"{cluster.found_in}; {why}"
    decisions.append(decision("world_size", asked, f"{world_size} ({name})", why))
    return EnginePlan(
        name=name,
        device="cuda" if devices else "cpu",
        world_size=world_size,
        num_nodes=cluster.num_nodes,
        threads=hardware.num_threads or max(1, hardware.cpu_count // a_node),
        timeout_seconds=recipe.engines.ddp_timeout,
        **_watched(recipe, alone=name == "single", decisions=decisions),
    )


def _watched(recipe: Recipe, *, alone: bool, decisions: list[Decision]) -> dict[str, Any]:
    """What the parent of the workers does for them; one worker runs in its process, and nobody watches it."""
    asked = {"max_restarts": recipe.engines.max_restarts, "hang_timeout": recipe.engines.hang_timeout}
    if alone:
        why = "one worker runs in the command's own process: the same command goes on after a death"
        decisions.extend(decision(key, value, "without effect", why) for key, value in asked.items() if value)
        return {}
    return {"max_restarts": asked["max_restarts"], "hang_timeout_seconds": asked["hang_timeout"]}


def plan_engine(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, batch: BatchPlan,
    decisions: list[Decision],
) -> EnginePlan:  # fmt: skip
    """The same workers with what their engine needs to know. Raises RecipeError for what it cannot do."""
    settings: dict[str, Any] = {}
    unsplit(recipe, engine, decisions)
    if engine.name == "ddp":
        settings["ddp"] = DDPPlan(find_unused_parameters=bool(recipe.engines.ddp_find_unused_parameters))
    elif engine.name == "fsdp":
        settings["fsdp"] = plan_fsdp(recipe, facts, engine, precision, batch, decisions)
    elif engine.name == "deepspeed":
        settings["deepspeed"] = plan_deepspeed(recipe, facts, engine, precision, batch, decisions)
    return engine.model_copy(update=settings)


def _check_launcher(asked: int | None, cluster: Cluster) -> None:
    """world_size counts the workers of a node, and so does a launcher."""
    started = cluster.workers_a_node
    if asked is not None and started is not None and asked != started:
        message = f"{amount(asked, 'worker')} a node; {cluster.found_in} starts {started}"
        raise RecipeError([Finding("world_size", message, "leave world_size out, or let the launcher start as many")])


def _name(recipe: Recipe, world_size: int) -> Literal["single", "ddp", "fsdp", "deepspeed"]:
    section = recipe.engines
    if section.deepspeed is not None:
        return "deepspeed"
    sharded = section.fsdp_config is not None or (section.dp_shard_size or 1) > 1
    if sharded and world_size > 1:
        return "fsdp"
    return "single" if world_size == 1 else "ddp"
