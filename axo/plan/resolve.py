"""(Recipe, Facts) -> Plan: the only home of computed defaults and fallbacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from axo.errors import Finding, RecipeError
from axo.plan.batching import plan_batch
from axo.plan.facts import Facts, Hardware
from axo.plan.mixture import mixture
from axo.plan.model_checks import check_model
from axo.plan.plan import BatchPlan, Decision, DType, EnginePlan, LossPlan, Plan, PrecisionPlan, decision
from axo.plan.schedule import plan_steps
from axo.recipe.recipe import Recipe
from axo.registry.tables import KNOWN_HEADS

BF16_CAPABILITY = (8, 0)
"""First CUDA compute capability with native bfloat16 (CUDA C++ Programming Guide, arithmetic instructions)."""
VANISHING_LR = 2**-14
"""Half a bfloat16 step at a weight of 0.02: bfloat16 keeps 7 fraction bits, so weights in [2**-6, 2**-5) are 2**-13
apart. AdamW moves a weight by about the learning rate; smaller moves are rounded away in bfloat16 weights."""


def resolve(recipe: Recipe, facts: Facts) -> Plan:
    """Decide everything once. Before the data is prepared (`facts.data` is None) `steps` stays None.

    Raises RecipeError for combinations that cannot run, and for any fallback under `fallbacks: refuse`."""
    decisions: list[Decision] = []
    engine = _engine(recipe, facts.hardware, decisions)
    precision = _precision(recipe, facts.hardware, engine, decisions)
    batch = plan_batch(recipe, engine=engine, decisions=decisions)
    decisions += [] if facts.data is None else mixture(facts.data)
    check_model(recipe, facts, batch, decisions)
    plan = Plan(
        engine=engine,
        attn_implementation=_attention(recipe, facts, engine, precision, batch, decisions),
        precision=precision,
        loss=_loss(recipe, facts, decisions),
        batch=batch,
        optimizer=_optimizer(recipe, decisions),
        trackers=_trackers(recipe, facts.hardware, decisions),
        steps=plan_steps(recipe, facts.data, batch=batch, decisions=decisions),
        decisions=tuple(decisions),
    )
    _refuse_fallbacks(recipe, plan.decisions)
    return plan


def _engine(recipe: Recipe, hardware: Hardware, decisions: list[Decision]) -> EnginePlan:
    devices = len(hardware.devices)
    asked = recipe.engines.world_size
    world_size = asked or max(devices, 1)
    if devices and world_size > devices:
        raise _refused(
            "world_size", f"{world_size} workers for {devices} GPUs", "one worker needs one GPU: lower world_size"
        )
    name = "single" if world_size == 1 else "ddp"
    why = f"{devices} GPUs" if devices else f"no GPU, {hardware.cpu_count} CPUs"
    decisions.append(decision("world_size", asked, f"{world_size} ({name})", why))
    return EnginePlan(
        name=name,
        device="cuda" if devices else "cpu",
        world_size=world_size,
        threads=hardware.num_threads or max(1, hardware.cpu_count // world_size),
        timeout_seconds=recipe.engines.ddp_timeout,
    )


def _precision(recipe: Recipe, hardware: Hardware, engine: EnginePlan, decisions: list[Decision]) -> PrecisionPlan:
    section = recipe.precision
    native = bool(hardware.devices) and all(device.compute_capability >= BF16_CAPABILITY for device in hardware.devices)
    bf16 = native if section.bf16 == "auto" else bool(section.bf16)
    decisions.append(_bf16_decision(section.bf16, bf16=bf16, native=native, device=engine.device))
    model_dtype: DType = "bfloat16" if bf16 else "float32"
    wide_weights = section.master_weights == "float32" and recipe.adapters.adapter is None
    if wide_weights:
        model_dtype = "float32"
    mixed = bf16 and (wide_weights or recipe.adapters.adapter is not None)
    decisions.append(_weights_decision(recipe, model_dtype))
    tf32 = native if section.tf32 == "auto" else section.tf32
    if engine.device == "cuda":
        decisions.append(decision("tf32", section.tf32, str(tf32).lower(), "matrix products that stay in float32"))
    return PrecisionPlan(
        model_dtype=model_dtype,
        adapter_dtype="float32",
        autocast_dtype="bfloat16" if mixed else None,
        tf32=tf32,
    )


def _bf16_decision(asked: Any, *, bf16: bool, native: bool, device: str) -> Decision:
    if asked != "auto":
        slow = bf16 and not native
        return decision("bf16", asked, "bfloat16" if bf16 else "float32", "slow here" if slow else "as asked")
    why = "the GPU computes it natively" if native else f"auto: no native bfloat16 on this {device}"
    return decision("bf16", asked, "bfloat16" if bf16 else "float32", why)


def _weights_decision(recipe: Recipe, model_dtype: DType) -> Decision:
    asked = recipe.precision.master_weights
    if recipe.adapters.adapter is not None:
        stored = f"base {model_dtype}, adapter float32"
        return decision("master_weights", asked, stored, "adapters are small: kept wide")
    why = "as asked" if asked else "weights are stored as computed"
    if model_dtype == "bfloat16" and recipe.optim.learning_rate < VANISHING_LR:
        why = (
            f"at learning_rate {recipe.optim.learning_rate:g} many bfloat16 updates round to nothing: "
            "master_weights: float32 is recommended"
        )
    return decision("master_weights", asked, f"weights {model_dtype}", why)


def _attention(
    recipe: Recipe,
    facts: Facts,
    engine: EnginePlan,
    precision: PrecisionPlan,
    batch: BatchPlan,
    decisions: list[Decision],
) -> Any:
    asked = recipe.model.attn_implementation
    missing = _flash_attention_missing(facts.hardware, engine, precision)
    effective: str = asked or ("sdpa_varlen" if missing else "flash_attention_2")
    why, fallback = ("as asked" if asked else "one call for each sample, no mask"), False
    if asked == "flash_attention_2" and missing:
        apart = "; sdpa_varlen keeps packed samples apart too" if batch.sample_packing else ""
        effective, why, fallback = "sdpa_varlen", f"{missing}{apart}", True
    elif asked in ("sdpa", "eager") and batch.sample_packing:
        why = "as asked; a T x T mask for packed samples (sdpa_varlen needs none)"
    decisions.append(decision("attn_implementation", asked, effective, why, fallback=fallback))
    return effective


def _flash_attention_missing(hardware: Hardware, engine: EnginePlan, precision: PrecisionPlan) -> str | None:
    if engine.device != "cuda":
        return "flash_attention_2 needs a GPU"
    if "flash-attn" not in hardware.packages:
        return "the package flash-attn is not installed"
    if "bfloat16" not in (precision.model_dtype, precision.autocast_dtype):
        return "flash_attention_2 computes in 16 bits only and this run in float32"
    return None


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


def _optimizer(recipe: Recipe, decisions: list[Decision]) -> str:
    asked = recipe.optim.optimizer
    why = "as asked" if "optimizer" in recipe.optim.model_fields_set else "Axolotl default"
    decisions.append(decision("optimizer", asked, asked, why))
    return asked


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


def _refused(key: str, message: str, hint: str) -> RecipeError:
    return RecipeError([Finding(key, message, hint)])
