"""(Recipe, Facts) -> Plan: the only home of computed defaults and fallbacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from axo.errors import Finding, RecipeError
from axo.plan import steps as formulas
from axo.plan.facts import DataFacts, Facts, Hardware
from axo.plan.plan import (
    BatchPlan,
    Decision,
    DType,
    EnginePlan,
    LossPlan,
    Plan,
    PrecisionPlan,
    StepsPlan,
)
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
    batch = _batch(recipe, engine, decisions)
    plan = Plan(
        engine=engine,
        attn_implementation=_attention(recipe, facts, engine, precision, batch, decisions),
        precision=precision,
        loss=_loss(recipe, facts, decisions),
        batch=batch,
        optimizer=_optimizer(recipe, decisions),
        steps=None if facts.data is None else _steps(recipe, facts.data, batch, decisions),
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
    decisions.append(_decision("world_size", asked, f"{world_size} ({name})", why))
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
    adapter_dtype: DType = "bfloat16" if section.bf16 == "full" else "float32"
    if wide_weights:
        model_dtype = "float32"
    mixed = bf16 and (wide_weights or (recipe.adapters.adapter is not None and adapter_dtype == "float32"))
    decisions.append(_weights_decision(recipe, model_dtype, adapter_dtype, bf16=bf16))
    tf32 = native if section.tf32 == "auto" else section.tf32
    if engine.device == "cuda":
        decisions.append(_decision("tf32", section.tf32, str(tf32).lower(), "matrix products that stay in float32"))
    return PrecisionPlan(
        model_dtype=model_dtype,
        adapter_dtype=adapter_dtype,
        autocast_dtype="bfloat16" if mixed else None,
        tf32=tf32,
    )


def _bf16_decision(asked: Any, *, bf16: bool, native: bool, device: str) -> Decision:
    if asked != "auto":
        slow = bf16 and not native
        return _decision("bf16", asked, "bfloat16" if bf16 else "float32", "slow here" if slow else "as asked")
    why = "the GPU computes it natively" if native else f"auto: no native bfloat16 on this {device}"
    return _decision("bf16", asked, "bfloat16" if bf16 else "float32", why)


def _weights_decision(recipe: Recipe, model_dtype: DType, adapter_dtype: DType, *, bf16: bool) -> Decision:
    asked = recipe.precision.master_weights
    if recipe.adapters.adapter is not None:
        stored = f"base {model_dtype}, adapter {adapter_dtype}"
        return _decision("master_weights", asked, stored, "adapters are small: kept wide")
    why = "as asked" if asked else "weights are stored as computed"
    if model_dtype == "bfloat16" and recipe.optim.learning_rate < VANISHING_LR:
        why = (
            f"at learning_rate {recipe.optim.learning_rate:g} many bfloat16 updates round to nothing: "
            "master_weights: float32 is recommended"
        )
    return _decision("master_weights", asked, f"weights {model_dtype}", why)


def _batch(recipe: Recipe, engine: EnginePlan, decisions: list[Decision]) -> BatchPlan:
    section = recipe.batch
    accumulation = section.gradient_accumulation_steps or (section.batch_size or section.micro_batch_size) // (
        section.micro_batch_size
    )
    packs = section.micro_batch_size * accumulation * engine.world_size
    workers = "1 worker" if engine.world_size == 1 else f"{engine.world_size} workers"
    product = f"{section.micro_batch_size} rows x {accumulation} accumulated x {workers}"
    decisions.append(_decision("batch_size", section.batch_size, f"{packs} rows a step", product))
    fill = section.sample_packing if section.pad_to_sequence_len is None else section.pad_to_sequence_len
    if section.sample_packing and section.pad_to_sequence_len is None:
        decisions.append(_decision("pad_to_sequence_len", None, "true", "sample_packing fills rows (Axolotl default)"))
    packed_evaluation = section.sample_packing if section.eval_sample_packing is None else section.eval_sample_packing
    return BatchPlan(
        micro_batch_size=section.micro_batch_size,
        gradient_accumulation_steps=accumulation,
        packs_per_step=packs,
        eval_batch_size=section.eval_batch_size or section.micro_batch_size,
        sample_packing=section.sample_packing,
        eval_sample_packing=packed_evaluation,
        pad_to=recipe.data.sequence_len if fill else None,
        pad_to_multiple_of=section.pad_to_multiple_of,
    )


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
        effective, why, fallback = "sdpa_varlen", f"{missing}; sdpa_varlen keeps packed samples apart too", True
    elif asked in ("sdpa", "eager") and batch.sample_packing:
        why = "as asked; a T x T mask for packed samples (sdpa_varlen needs none)"
    decisions.append(_decision("attn_implementation", asked, effective, why, fallback=fallback))
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
    decisions.append(_decision("chunked_cross_entropy", asked, effective, why, fallback=not known and asked is None))
    return LossPlan(chunked=chunked, num_chunks=recipe.objectives.chunked_cross_entropy_num_chunks)


def _optimizer(recipe: Recipe, decisions: list[Decision]) -> str:
    asked = recipe.optim.optimizer
    decisions.append(_decision("optimizer", asked, asked, "as asked or default; torch AdamW"))
    return asked


def _steps(recipe: Recipe, data: DataFacts, batch: BatchPlan, decisions: list[Decision]) -> StepsPlan:
    run = recipe.run
    per_epoch = formulas.steps_per_epoch(data.train_packs, packs_per_step=batch.packs_per_step)
    total = formulas.total_steps(per_epoch=per_epoch, num_epochs=run.num_epochs, max_steps=run.max_steps)
    warmup = _warmup(recipe, total, decisions)
    decisions.append(
        _decision(
            "max_steps" if run.max_steps else "num_epochs",
            run.max_steps or run.num_epochs,
            f"{total} steps",
            f"{data.train_packs} rows, {per_epoch} steps an epoch",
        )
    )
    evaluation, saving = recipe.evaluation, recipe.checkpoint
    return StepsPlan(
        steps_per_epoch=per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        logging_steps=formulas.logging_steps(total, asked=recipe.tracking.logging_steps),
        evaluate=None
        if data.eval_samples == 0
        else formulas.cadence(
            strategy=evaluation.eval_strategy,
            steps=evaluation.eval_steps,
            per_epoch=evaluation.evals_per_epoch,
            total=total,
            num_epochs=run.num_epochs,
        ),
        save=formulas.cadence(
            strategy=saving.save_strategy,
            steps=saving.save_steps,
            per_epoch=saving.saves_per_epoch,
            total=total,
            num_epochs=run.num_epochs,
        ),
    )


def _warmup(recipe: Recipe, total: int, decisions: list[Decision]) -> int:
    optim = recipe.optim
    asked = optim.warmup_steps if optim.warmup_ratio is None else optim.warmup_ratio
    warmup = min(formulas.warmup_steps(total, steps=optim.warmup_steps, ratio=optim.warmup_ratio), total)
    why = "linear from 0"
    if optim.lr_scheduler == "constant":
        warmup, why = 0, "lr_scheduler constant has no warmup; constant_with_warmup has"
    decisions.append(_decision("warmup_steps", asked, str(warmup), why))
    return warmup


def _decision(key: str, asked: Any, effective: str, why: str, *, fallback: bool = False) -> Decision:
    shown = "unset" if asked is None else str(asked).lower() if isinstance(asked, bool) else str(asked)
    return Decision(key=key, asked=shown, effective=effective, why=why, fallback=fallback)


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
