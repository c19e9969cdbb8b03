"""How FSDP2 splits a model: the Plan's answers to fsdp_config, dp_shard_size and dp_replicate_size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from axo.errors import RecipeError
from axo.plan.facts import Facts
from axo.plan.fsdp_refusals import refusals
from axo.plan.fsdp_sizes import sizes
from axo.plan.plan import BatchPlan, Decision, DType, EnginePlan, FSDPPlan, PrecisionPlan, decision
from axo.plan.quantization import asked_kind
from axo.plan.stored_quantization import agreed_kind, stored_quantization
from axo.recipe.adapter_rules import OF_BASE
from axo.recipe.fsdp import FSDPConfig
from axo.recipe.recipe import Recipe

_WIDTHS: dict[str, DType] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_KEEPS = ("SHARD_GRAD_OP", 2, "HYBRID_SHARD_ZERO2", 5)
"""Values of sharding_strategy that keep parameters gathered from the forward to the backward pass (ZeRO-2)."""


def plan_fsdp(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, batch: BatchPlan,
    decisions: list[Decision],
) -> FSDPPlan:  # fmt: skip
    """Settings of the engine; each decision is added to `decisions`.

    Raises RecipeError for sizes that do not give the number of workers, and for what cannot be split."""
    config = recipe.engines.fsdp_config or FSDPConfig()
    findings = list(refusals(recipe, precision))
    quantised = _kind(recipe, facts)
    shard, replicate = sizes(recipe, engine, quantised, findings, decisions)
    if findings:
        raise RecipeError(findings)
    decisions.append(_version(recipe, config))
    checkpoint, final = _saving(recipe, config, decisions)
    param_dtype, reduce_dtype = _policy(config, quantised, precision, decisions)
    return FSDPPlan(
        shard=shard,
        replicate=replicate,
        reshard_after_forward=_reshard(config, decisions),
        layer_classes=_classes(config),
        min_num_params=_units(config, decisions),
        param_dtype=param_dtype,
        reduce_dtype=reduce_dtype,
        reduce_each=_reduces_each(recipe, batch, decisions),
        offload=_offload(config, engine, decisions),
        pin_memory=config.cpu_offload_pin_memory is not False,
        one_reader=_one_reader(recipe, config, quantised, decisions),
        checkpoint=checkpoint,
        final=final,
    )


def _kind(recipe: Recipe, facts: Facts) -> str | None:
    """How the base is quantised."""
    return agreed_kind(asked_kind(recipe.quantization), stored_quantization(facts.model_config))


def _version(recipe: Recipe, config: FSDPConfig) -> Decision:
    asked = config.fsdp_version or recipe.engines.fsdp_version
    key = "fsdp_config.fsdp_version" if config.fsdp_version else "fsdp_version"
    why = "each parameter is split by itself (torch's fully_shard)"
    if asked != 2:
        why += "; keys of FSDP 1 are read as what they say of FSDP 2"
    return decision(key, asked, "2", why)


def _reshard(config: FSDPConfig, decisions: list[Decision]) -> bool:
    asked, strategy = config.reshard_after_forward, config.sharding_strategy
    effective = asked if asked is not None else strategy not in _KEEPS
    why = "as asked" if asked is not None else f"as sharding_strategy: {strategy} says" if strategy else "saves memory"
    words = "gathered for the forward and again for the backward pass" if effective else "gathered once for both passes"
    decisions.append(decision("fsdp_config.reshard_after_forward", asked, words, why))
    return effective


def _classes(config: FSDPConfig) -> tuple[str, ...]:
    if config.auto_wrap_policy == "SIZE_BASED_WRAP":
        return ()
    names = [name.strip() for name in (config.transformer_layer_cls_to_wrap or "").split(",")]
    return tuple(name for name in names if name)


def _units(config: FSDPConfig, decisions: list[Decision]) -> int | None:
    """min_num_params where it counts."""
    key, asked = "fsdp_config.auto_wrap_policy", config.auto_wrap_policy
    least = config.min_num_params if asked == "SIZE_BASED_WRAP" else None
    if least is not None:
        decisions.append(decision(key, asked, f"units of at least {least:,} parameters", "as min_num_params says"))
        decisions.extend(_passed_over(config, "transformer_layer_cls_to_wrap", why="units are chosen by their size"))
        return least
    classes = _classes(config)
    effective = f"a unit is a {' or a '.join(classes)}" if classes else "a unit is a layer"
    why = "as transformer_layer_cls_to_wrap says" if classes else "the classes that the model's code says not to split"
    decisions.append(decision(key, asked, effective, f"{why}; embeddings, last norm and output head are one more"))
    decisions.extend(_passed_over(config, "min_num_params", why="it is for auto_wrap_policy: SIZE_BASED_WRAP"))
    return None


def _reduces_each(recipe: Recipe, batch: BatchPlan, decisions: list[Decision]) -> bool:
    """Whole gradients of a whole model would take the memory that splitting it saves; those of an adapter are small."""
    steps, each = batch.gradient_accumulation_steps, recipe.adapters.adapter is None
    if steps > 1:
        key, asked = "gradient_accumulation_steps", recipe.batch.gradient_accumulation_steps
        said = next((one for one in decisions if one.key == key), None) or decision(key, asked, str(steps), "")
        when = "behind every micro-batch" if each else "once a step"
        why = "each worker keeps its part of them alone" if each else "gradients of an adapter are small"
        update = {"effective": f"{said.effective}, gradients reduced {when}", "why": f"{said.why}; {why}".lstrip("; ")}
        decisions[:] = [*(one for one in decisions if one.key != key), said.model_copy(update=update)]
    return each


def _passed_over(config: FSDPConfig, key: str, *, why: str) -> Iterator[Decision]:
    value = getattr(config, key)
    if value is not None:
        yield decision(f"fsdp_config.{key}", value, "no effect", why)


def _policy(
    config: FSDPConfig, quantised: str | None, precision: PrecisionPlan, decisions: list[Decision]
) -> tuple[DType | None, DType | None]:
    key, asked = "fsdp_config.mixed_precision_policy", config.mixed_precision_policy
    width = _WIDTHS.get(asked or "")
    if width is None:
        computed = precision.autocast_dtype or precision.model_dtype
        why = f"as stored, so that results are those of one worker; products are computed in {computed}"
        decisions.append(decision(key, asked, "parameters and gradients travel as they are", why))
        return None, None
    if quantised is not None:
        why = "packed weights are gathered as they are; gradients of the adapter are reduced as asked"
        decisions.append(decision(key, asked, f"gradients are reduced in {width}", why))
        return None, width
    effective = f"parameters are gathered and computed in {width}, gradients reduced in it"
    decisions.append(decision(key, asked, effective, f"as asked; stored and updated in {precision.model_dtype}"))
    return width, width


def _offload(config: FSDPConfig, engine: EnginePlan, decisions: list[Decision]) -> bool:
    if not config.offload_params:
        return False
    on_gpu = engine.device == "cuda"
    effective = "parameters, gradients and optimizer state in CPU memory" if on_gpu else "no effect"
    pinned = "page-locked memory" if config.cpu_offload_pin_memory is not False else "pageable memory"
    why = f"in {pinned}; the optimizer runs on the CPU" if on_gpu else "there is no GPU: they are in CPU memory anyway"
    decisions.append(decision("fsdp_config.offload_params", True, effective, why))
    return on_gpu


def _one_reader(recipe: Recipe, config: FSDPConfig, quantised: str | None, decisions: list[Decision]) -> bool:
    key, asked = "fsdp_config.cpu_ram_efficient_loading", config.cpu_ram_efficient_loading
    if not asked:
        if recipe.engines.fsdp_config is not None:
            effective = "each worker reads the weights"
            decisions.append(decision(key, asked, effective, "true needs CPU memory for one copy of the model only"))
        return False
    reason = next(_each_must_read(recipe, quantised), None)
    if reason is None:
        decisions.append(
            decision(key, True, "worker 0 reads the weights", "and sends them to the others, unit by unit")
        )
        return True
    decisions.append(decision(key, True, "each worker reads the weights", reason, fallback=True))
    return False


def _each_must_read(recipe: Recipe, quantised: str | None) -> Iterator[str]:
    """Why a model that is built without its weights would not be the one that is read."""
    if quantised is not None:
        yield "quantised weights are packed while they are read"
    if recipe.adapters.lora_model_dir is not None:
        yield "lora_model_dir is read by each worker onto the weights"
    if str(recipe.adapters.peft_init_lora_weights).partition("_")[0] in OF_BASE:
        yield f"peft_init_lora_weights: {recipe.adapters.peft_init_lora_weights} is computed from the weights"
    if recipe.adapters.peft_use_dora:
        yield "the magnitudes of DoRA are computed from the weights"
    if recipe.model.model_kwargs:
        yield "model_kwargs are arguments of reading the weights"


def _saving(
    recipe: Recipe, config: FSDPConfig, decisions: list[Decision]
) -> tuple[Literal["sharded", "full"], Literal["sharded", "full"]]:
    asked = config.state_dict_type
    checkpoint = "full" if asked == "FULL_STATE_DICT" else "sharded"
    words = {"full": "each worker's part, and the whole model beside them", "sharded": "each worker's part"}
    why = (
        "as asked" if asked in ("FULL_STATE_DICT", "SHARDED_STATE_DICT") else "another number of workers can load them"
    )
    decisions.append(decision("fsdp_config.state_dict_type", asked, words[checkpoint], why))
    named = config.final_state_dict_type or recipe.engines.fsdp_final_state_dict_type
    meant: Any = named or asked
    sharded = meant in ("SHARDED_STATE_DICT", "LOCAL_STATE_DICT") and recipe.adapters.adapter is None
    effective = (
        "each worker's part: axo consolidate makes one model of them" if sharded else "whole, as one worker does"
    )
    why = "as asked" if named else "as state_dict_type says" if asked else "others can load it"
    if recipe.adapters.adapter is not None:
        why = "an adapter is small"
    older = config.final_state_dict_type is None and named is not None
    key = "fsdp_final_state_dict_type" if older else "fsdp_config.final_state_dict_type"
    decisions.append(decision(key, named, effective, why))
    return checkpoint, "sharded" if sharded else "full"
