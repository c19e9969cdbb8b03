"""DeepSpeed's configuration: read, filled in from the recipe, compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from axo.errors import Finding, RecipeError
from axo.plan.deepspeed_file import KEY, Written, read
from axo.plan.deepspeed_filled import Filled, fill
from axo.plan.deepspeed_keys import check_keys, check_rest
from axo.plan.deepspeed_limits import limits
from axo.plan.deepspeed_training import check_training
from axo.plan.facts import Facts
from axo.plan.plan import BatchPlan, Decision, DeepSpeedPlan, EnginePlan, PrecisionPlan, decision
from axo.plan.words import amount
from axo.recipe.recipe import Recipe

_SPLIT = {
    1: "optimizer state is split among {workers}",
    2: "optimizer state and gradients are split among {workers}",
    3: "optimizer state, gradients and parameters are split among {workers}",
}


def plan_deepspeed(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, batch: BatchPlan,
    decisions: list[Decision],
) -> DeepSpeedPlan:  # fmt: skip
    """The configuration with every `auto` filled in, as the recipe means it. Raises RecipeError for all that
    contradicts the recipe, and all that the engine cannot do."""
    asked: Any = recipe.engines.deepspeed
    written = read(asked)
    filled = fill(
        written, optim=recipe.optim, batch=batch, engine=engine, precision=precision, model_config=facts.model_config
    )
    findings = [
        *check_keys(written),
        *filled.findings,
        *check_training(written, recipe.optim),
        *check_rest(written, filled.config),
        *limits(recipe, facts, written, engine, precision),
    ]
    if findings:
        raise RecipeError(_once(findings))
    plan = DeepSpeedPlan(config=filled.config)
    decisions += _decisions(recipe, written, filled, engine, stage=plan.stage)
    return plan


def _decisions(
    recipe: Recipe, written: Written, filled: Filled, engine: EnginePlan, *, stage: int
) -> Iterator[Decision]:
    asked = written.file or "a mapping"
    why = _SPLIT[stage].format(workers=amount(engine.world_size, "worker"))
    if filled.autos:
        why += f"; from the recipe: {', '.join(_short(key) for key in filled.autos)}"
    yield decision(KEY, asked, f"ZeRO stage {stage}", why)
    for key, what in (("offload_optimizer", "optimizer state"), ("offload_param", "parameters")):
        if written.at(f"zero_optimization.{key}.device") == "cpu":
            yield decision(f"{KEY}.zero_optimization.{key}", "cpu", f"{what} in CPU memory", _offload_why(key, recipe))
    if written.at("zero_force_ds_cpu_optimizer") is True and _offloads(written):
        why = "torch computes the same update with vector instructions, and nothing has to be compiled"
        yield decision(f"{KEY}.zero_force_ds_cpu_optimizer", True, recipe.optim.optimizer, why, fallback=True)
    for block, owner in (("optimizer", recipe.optim.optimizer), ("scheduler", recipe.optim.lr_scheduler)):
        if written.at(block) is not None:
            why = f"the recipe's own {block} runs; the block asks for the same"
            yield decision(f"{KEY}.{block}", written.at(f"{block}.type"), owner, why)
    if written.at("compile") is not None:
        compiled = recipe.kernels.torch_compile is True
        why = "compiling is the recipe's torch_compile" + ("" if compiled else ", which is not set")
        line = decision(f"{KEY}.compile", "a mapping", "true" if compiled else "nothing is compiled", why)
        yield line.model_copy(update={"warning": not compiled})


def _offload_why(key: str, recipe: Recipe) -> str:
    if key == "offload_optimizer":
        return f"{recipe.optim.optimizer} updates them there"
    return "each layer's are brought to the device for its part of a pass"


def _offloads(written: Written) -> bool:
    return written.at("zero_optimization.offload_optimizer.device") == "cpu"


def _short(key: str) -> str:
    return key.removeprefix("zero_optimization.").removesuffix(".enabled")


def _once(findings: list[Finding]) -> list[Finding]:
    """One finding of each place: a key that is not known has no value to compare."""
    seen: dict[tuple[str, int | None], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.key, finding.line), finding)
    return list(seen.values())
