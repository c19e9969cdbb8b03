"""The memory of each rank of a run, from its Plan and the model's config.json, in words of `axo explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from axo.plan.facts import Facts
from axo.plan.fsdp_refusals import refusals
from axo.plan.memory import Held, Optimizer, Part, Split, Tensor, held, strategies
from axo.plan.memory_bytes import BYTES, Place, quantised_bytes
from axo.plan.parameters import ParameterCounts
from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.plan import EnginePlan, Plan
from axo.plan.quantization import HEAD
from axo.plan.words import amount, in_binary
from axo.recipe.optim_settings import optimizer_settings
from axo.recipe.recipe import Recipe

WORTH_SPLITTING = 2**30
"""Bytes from which on other strategies are told for a run of one worker."""
MANY = 8
"""Workers that they are told for: those of most machines with several GPUs."""


def memory_lines(recipe: Recipe, plan: Plan, *, facts: Facts, counts: ParameterCounts) -> Iterator[str]:
    """What each rank holds, and what it would hold under other engines; nothing where the parameters, or what the
    optimizer remembers of them, are not known."""
    if counts.trainable is None or facts.model_config is None:
        return
    optimizer = Optimizer(plan.optimizer, optimizer_settings(recipe.optim, name=plan.optimizer))
    try:
        tensors = tensors_of(recipe, plan, model=architecture(facts.model_config), counts=counts)
        mine = held(as_stored(tensors, plan), split_of(plan), optimizer=optimizer)
        yield from _mine(mine, plan.engine)
        yield from _others(recipe, plan, tensors, mine, optimizer)
    except NotKnown as error:
        yield f"not known: {error}"


def tensors_of(recipe: Recipe, plan: Plan, *, model: Architecture, counts: ParameterCounts) -> tuple[Tensor, ...]:
    """Every parameter as axo stores it under single, ddp and fsdp."""
    chosen = {name for name, _ in counts.trained}
    adapted = recipe.adapters.adapter is not None
    width = BYTES[plan.precision.model_dtype]
    base = (
        Tensor(
            name,
            shape,
            weight_bytes=width,
            packed_bytes=_packed(plan, model, name, shape),
            kept_whole=plan.quantization.kind == "bnb_8bit",
            trained=not adapted and (name in chosen or not chosen),
            place=_place(model, name),
        )
        for name, shape in model.parameters.items()
    )
    beside = (
        Tensor(name, shape, weight_bytes=BYTES[plan.precision.adapter_dtype], trained=True)
        for name, shape in (counts.trained if adapted else ())
    )
    return (*base, *beside)


def as_stored(tensors: tuple[Tensor, ...], plan: Plan) -> tuple[Tensor, ...]:
    """The same tensors as the Plan's engine stores them."""
    return tensors if plan.engine.name != "deepspeed" else _under_deepspeed(tensors, plan)


def split_of(plan: Plan) -> Split:
    """What the Plan's engine splits, among how many ranks."""
    engine = plan.engine
    if engine.fsdp is not None:
        settings, ranks = engine.fsdp, engine.fsdp.shard
        summed = settings.reduce_dtype or settings.param_dtype
        everything: frozenset[Part] = frozenset(("weights", "gradients", "states"))
        return replace(
            strategies(ranks)["fsdp"],
            gathered="layers" if settings.reshard_after_forward else "all",
            gathered_bytes=None if settings.param_dtype is None else BYTES[settings.param_dtype],
            on_cpu=everything if settings.offload else frozenset[Part](),
            sums_whole=plan.batch.gradient_accumulation_steps > 1 and not settings.reduce_each,
            gradient_bytes=None if summed is None else BYTES[summed],
        )
    if engine.deepspeed is not None:
        return _zero(engine.deepspeed.config, engine.deepspeed.stage, engine.world_size)
    return Split()


def _zero(config: Mapping[str, Any], stage: int, ranks: int) -> Split:
    """With the optimizer's state its gradients go to the CPU too, where the update is computed (DeepSpeed's estimators
    of memory, runtime/zero/stage_1_and_2.py and stage3.py)."""
    if stage == 0:
        return Split(by="numbers")
    section = cast("Mapping[str, Any]", config.get("zero_optimization") or {})
    parts: set[Part] = set()
    if _is_moved(section, "offload_optimizer"):
        parts |= {"gradients", "states"}
    if _is_moved(section, "offload_param"):
        parts |= {"weights"}
    split = replace(strategies(ranks)[f"zero{stage}"], on_cpu=frozenset(parts))
    live = section.get("stage3_max_live_parameters")
    return replace(split, gathered=int(live)) if stage == 3 and isinstance(live, int | float) else split


def _is_moved(section: Mapping[str, Any], key: str) -> bool:
    target = cast("Mapping[str, Any]", section.get(key) or {})
    return target.get("device", "none") not in (None, "none")


def _under_deepspeed(tensors: tuple[Tensor, ...], plan: Plan) -> tuple[Tensor, ...]:
    """A float32 copy of each trained weight is updated, and beside adapters, which stay in float32, one too; other
    weights are stored as they are computed with."""
    width = BYTES[plan.precision.autocast_dtype or plan.precision.model_dtype]
    adapted = any(not one.trained for one in tensors)
    width = 4 if adapted else width
    return tuple(
        replace(one, weight_bytes=min(one.weight_bytes, width), master_bytes=4) if one.trained else one
        for one in tensors
    )


def _packed(plan: Plan, model: Architecture, name: str, shape: tuple[int, ...]) -> float | None:
    module, _, kind = name.rpartition(".")
    if plan.quantization.experts and ".experts." in name:
        return quantised_bytes(plan.quantization, shape)
    whole = (HEAD, model.head, *plan.quantization.settings.get("llm_int8_skip_modules", ()))
    if plan.quantization.kind is None or kind != "weight" or module not in model.linear:
        return None
    return None if any(module.endswith(end) for end in whole) else quantised_bytes(plan.quantization, shape)


def _place(model: Architecture, name: str) -> Place:
    module = name.rpartition(".")[0]
    return "embeddings" if module in model.lookup else "head" if module == model.head else "inside"


def _mine(mine: Held, engine: EnginePlan) -> Iterator[str]:
    who = f"each of {engine.world_size} workers: " if engine.world_size > 1 else ""
    states = "optimizer state" + (" with float32 weights" if engine.deepspeed is not None else "")
    parts = (
        f"weights {in_binary(mine.weights)}, gradients {in_binary(mine.gradients)}, {states} {in_binary(mine.states)}"
    )
    where = f", {in_binary(mine.total - mine.on_device)} of it in CPU memory" if mine.on_cpu else ""
    yield f"{who}{parts}: {in_binary(mine.total)}{where}; activations come on top"
    if mine.gathered:
        yield f"while the model computes, up to {in_binary(mine.gathered)} of weights from other workers more"


def _others(recipe: Recipe, plan: Plan, tensors: tuple[Tensor, ...], mine: Held, optimizer: Optimizer) -> Iterator[str]:
    workers = plan.engine.world_size
    if workers == 1 and mine.total < WORTH_SPLITTING:
        return
    workers = MANY if workers == 1 else workers
    splits = dict(strategies(workers))
    summed = plan.batch.gradient_accumulation_steps > 1 and recipe.adapters.adapter is not None
    splits["fsdp"] = replace(splits["fsdp"], sums_whole=summed)
    totals = {
        name: held(_under_deepspeed(tensors, plan) if name.startswith("zero") else tensors, split, optimizer=optimizer)
        for name, split in splits.items()
        if name != "fsdp" or next(refusals(recipe, plan.precision), None) is None
    }
    said = ", ".join(f"{name} {in_binary(one.total)}" for name, one in totals.items())
    yield f"on {amount(workers, 'worker')} each would hold {said}"
