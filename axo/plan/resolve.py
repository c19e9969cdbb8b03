"""(Recipe, Facts) -> Plan: the only home of computed defaults and fallbacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from axo.errors import Finding, RecipeError
from axo.plan.adapters import plan_adapters
from axo.plan.attention import plan_attention
from axo.plan.batching import plan_batch
from axo.plan.costs import with_costs
from axo.plan.engine import plan_engine, plan_workers
from axo.plan.facts import Facts, Hardware
from axo.plan.kernels import plan_kernels
from axo.plan.mixture import mixture
from axo.plan.model_checks import check_model
from axo.plan.optimizer import plan_optimizer
from axo.plan.plan import Decision, LossPlan, Plan, decision
from axo.plan.precision import plan_precision
from axo.plan.quantization import plan_quantization
from axo.plan.recompute import plan_recompute
from axo.plan.schedule import plan_steps
from axo.plan.stopping import plan_stopping
from axo.recipe.recipe import Recipe
from axo.registry.tables import KNOWN_HEADS


def resolve(recipe: Recipe, facts: Facts) -> Plan:
    """Decide everything once. Before the data is prepared (`facts.data` is None) `steps` stays None.

    Raises RecipeError for combinations that cannot run, and for any fallback under `fallbacks: refuse`."""
    decisions: list[Decision] = []
    engine = plan_workers(recipe, facts, decisions)
    precision = plan_precision(recipe, facts.hardware, engine, decisions)
    quantization = plan_quantization(recipe, facts, engine, precision, decisions)
    batch = plan_batch(recipe, facts, engine=engine, decisions=decisions)
    batch = with_costs(batch, recipe, facts, engine=engine, decisions=decisions)
    decisions += [] if facts.data is None else mixture(facts.data)
    check_model(recipe, facts, batch, decisions)
    engine = plan_engine(recipe, facts, engine, precision, batch, decisions)
    plan_adapters(recipe, facts, decisions)
    plan = Plan(
        engine=engine,
        attn_implementation=plan_attention(recipe, facts, engine, precision, batch, decisions),
        precision=precision,
        quantization=quantization,
        recompute=plan_recompute(recipe, facts, engine, decisions),
        kernels=plan_kernels(recipe, facts, engine, decisions),
        loss=_loss(recipe, facts, decisions),
        batch=batch,
        optimizer=plan_optimizer(recipe, facts.hardware, engine, decisions),
        trackers=_trackers(recipe, facts.hardware, decisions),
        stopping=plan_stopping(recipe, decisions),
        steps=plan_steps(recipe, facts.data, batch=batch, decisions=decisions),
        decisions=tuple(decisions),
    )
    _refuse_fallbacks(recipe, plan.decisions)
    return plan


def _loss(recipe: Recipe, facts: Facts, decisions: list[Decision]) -> LossPlan:
    asked = recipe.objectives.chunked_cross_entropy
    model_type = None if facts.model_config is None else facts.model_config.get("model_type")
    known = model_type is None or model_type in KNOWN_HEADS
    chunked = known if asked is None else asked
    if asked is not None:
        why = "as asked; compared with the model's own logits at the start" if asked else "as asked"
    elif known:
        why = "logits in pieces at trained positions only"
    else:
        why = f"the way from hidden states to logits of {model_type!r} is not known to axo: its own logits are used"
    effective = "chunked" if chunked else "plain"
    decisions.append(decision("chunked_cross_entropy", asked, effective, why, fallback=not known and asked is None))
    return LossPlan(chunked=chunked, num_chunks=recipe.objectives.chunked_cross_entropy_num_chunks)


def _trackers(recipe: Recipe, hardware: Hardware, decisions: list[Decision]) -> tuple[str, ...]:
    """The trackers that the recipe asks for and whose packages are installed."""
    section = recipe.tracking
    by_project = section.use_wandb is None and section.wandb_project is not None
    asked = {"tensorboard": section.use_tensorboard, "wandb": by_project or bool(section.use_wandb)}
    for name in (name for name, wanted in asked.items() if wanted):
        missing = name not in hardware.packages
        implied = by_project and name == "wandb"
        why = f"the package {name} is not installed" if missing else "wandb_project is set" if implied else "as asked"
        value = None if implied else True
        decisions.append(decision(f"use_{name}", value, "off" if missing else "true", why, fallback=missing))
    return tuple(name for name, wanted in asked.items() if wanted and name in hardware.packages)


def _refuse_fallbacks(recipe: Recipe, decisions: Iterable[Decision]) -> None:
    if recipe.run.fallbacks == "allow":
        return
    findings = [
        Finding(
            decision.key,
            f"{decision.asked} cannot be had: {decision.why}",
            f"fallbacks: refuse is set; ask for {decision.effective!r} or set fallbacks: allow",
        )
        for decision in decisions
        if decision.fallback
    ]
    if findings:
        raise RecipeError(findings)
