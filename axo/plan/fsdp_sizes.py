"""Among how many workers FSDP splits a model, and how many groups hold it (HSDP)."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding, RecipeError
from axo.plan.plan import Decision, EnginePlan, decision
from axo.recipe.fsdp import FSDPConfig
from axo.recipe.recipe import Recipe
from axo.recipe.section import NoEffect, mark

_WHOLE = {
    "bnb_8bit": "weights of 8 bits stay whole on each, as their scales stand beside them",
    "gptq": "quantised weights stay whole on each, as they are no parameters",
}
"""Quantised bases that FSDP does not split, and why."""
_HYBRID = ("HYBRID_SHARD", 4, "HYBRID_SHARD_ZERO2", 5)


def sizes(
    recipe: Recipe, engine: EnginePlan, quantised: str | None, findings: list[Finding], decisions: list[Decision]
) -> tuple[int, int]:
    """(shard, replicate), whose product is the number of workers; what does not fit is added to `findings`."""
    section, workers = recipe.engines, engine.world_size
    shard, replicate, why = _chosen(recipe, engine)
    if shard * replicate != workers:
        given = {key: getattr(section, key) for key in ("dp_shard_size", "dp_replicate_size") if getattr(section, key)}
        parts = " x ".join(f"{key}: {size}" for key, size in given.items())
        fits = ", ".join(f"{workers // one} x {one}" for one in range(1, workers + 1) if workers % one == 0)
        message = f"{parts} does not give the {workers} workers that there are"
        hint = f"dp_shard_size x dp_replicate_size may be {fits}; unset, each is what the other leaves"
        findings.append(Finding(next(iter(given)), message, hint))
    elif shard == 1:
        message = f"leaves each of the {workers} workers the whole model: nothing would be split"
        key = "dp_shard_size" if section.dp_shard_size else "dp_replicate_size"
        findings.append(Finding(key, message, "remove fsdp_config and both sizes: gradients are then averaged (ddp)"))
    groups = f" in {replicate} groups that each hold the model (HSDP)" if replicate > 1 else ""
    effective = f"split among {shard} workers{groups}"
    asked = section.dp_shard_size or None
    whole = _WHOLE.get(quantised or "")
    decisions.append(decision("dp_shard_size", asked, effective, f"{why}; {whole}" if whole else why))
    return shard, replicate


def unsplit(recipe: Recipe, engine: EnginePlan, decisions: list[Decision]) -> None:
    """Says of a recipe that asks for FSDP what one worker makes of it. Raises RecipeError where more are asked for."""
    section = recipe.engines
    given = {key: size for key in ("dp_shard_size", "dp_replicate_size") if (size := getattr(section, key) or 1) > 1}
    if section.deepspeed is not None or engine.world_size > 1:
        return
    if given:
        raise RecipeError([
            Finding(key, f"is {size}, and there is 1 worker", f"set world_size: {size} (one GPU each), or remove it")
            for key, size in given.items()
        ])  # fmt: skip
    if section.fsdp_config is not None:
        why = "one worker holds the whole model: there is nobody to split it with"
        decisions.append(decision("dp_shard_size", section.dp_shard_size or None, "not split", why))
        decisions.extend(_idle(section.fsdp_config))


def _idle(config: FSDPConfig) -> Iterator[Decision]:
    """Keys that are given and change nothing on one worker."""
    for key, value in config.model_dump(exclude_defaults=True).items():
        info = FSDPConfig.model_fields[key]
        if key != "activation_checkpointing" and mark(info, NoEffect) is None:
            yield decision(f"fsdp_config.{key}", value, "no effect", "one worker holds the whole model")


def _chosen(recipe: Recipe, engine: EnginePlan) -> tuple[int, int, str]:
    section, workers = recipe.engines, engine.world_size
    shard, replicate = section.dp_shard_size or 0, section.dp_replicate_size or 0
    strategy = (section.fsdp_config or FSDPConfig()).sharding_strategy
    if shard and replicate:
        return shard, replicate, "as dp_shard_size and dp_replicate_size say"
    if shard:
        return shard, max(1, workers // shard), "dp_replicate_size is what dp_shard_size leaves"
    if replicate:
        return max(1, workers // replicate), replicate, "dp_shard_size is what dp_replicate_size leaves"
    if strategy in _HYBRID and engine.num_nodes > 1:
        return engine.workers_a_node, engine.num_nodes, f"sharding_strategy: {strategy}: each node holds the model"
    return workers, 1, "all workers: each holds the least"
