"""What each worker sends in a step, from the Plan and the model's config.json, in words of `axo explain`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from axo.plan.communication import Collective, Weight, ddp_step, fsdp_step, sent_bytes, zero_step
from axo.plan.facts import Facts
from axo.plan.memory import Tensor
from axo.plan.memory_bytes import BYTES
from axo.plan.memory_plan import tensors_of
from axo.plan.parameters import ParameterCounts
from axo.plan.parameters_architecture import NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.plan import FSDPPlan, Plan
from axo.plan.words import in_binary
from axo.recipe.recipe import Recipe

_LAYER = re.compile(r"\.(?:layers|h)\.(\d+)\.")


def traffic_lines(recipe: Recipe, plan: Plan, *, facts: Facts, counts: ParameterCounts) -> Iterator[str]:
    """Nothing for one worker, and where the parameters or the units that are gathered together are not known."""
    if plan.engine.world_size == 1 or counts.trainable is None or facts.model_config is None:
        return
    if plan.quantization.kind is not None and plan.engine.name != "ddp":
        return  # packed weights have shapes of their own
    try:
        tensors = tensors_of(recipe, plan, model=architecture(facts.model_config), counts=counts)
    except NotKnown:
        return
    step = step_of(plan, tensors)
    if step:
        least = "at least " if plan.engine.name == "deepspeed" else ""
        parts = {kind: sent_bytes(one for one in step if one.kind == kind) for kind in (each.kind for each in step)}
        each = ", ".join(f"{kind} {in_binary(round(sent))}" for kind, sent in parts.items())
        yield f"each worker sends {least}{in_binary(round(sent_bytes(step)))} a step, and receives as much: {each}"


def step_of(plan: Plan, tensors: Sequence[Tensor]) -> list[Collective]:
    """The collectives of a step; none where they are not known."""
    engine, micro_batches = plan.engine, plan.batch.gradient_accumulation_steps
    weights = [_weight(one, plan.engine.fsdp) for one in tensors]
    if engine.name == "ddp":
        return ddp_step(weights, ranks=engine.world_size)
    if engine.deepspeed is not None:
        stage = engine.deepspeed.stage
        assert stage in (0, 1, 2, 3)
        return zero_step(weights, stage=stage, ranks=engine.world_size, micro_batches=micro_batches)
    settings = engine.fsdp
    if settings is None or settings.min_num_params is not None or len(settings.layer_classes) > 1:
        return []
    layers: dict[str, list[Weight]] = {}
    root: list[Weight] = []
    for tensor, weight in zip(tensors, weights, strict=True):
        layer = _LAYER.search(tensor.name)
        (layers.setdefault(layer[1], []) if layer else root).append(weight)
    return fsdp_step(
        list(layers.values()),
        root,
        shard=settings.shard,
        replicate=settings.replicate,
        reshard_after_forward=settings.reshard_after_forward,
        reduce_each=settings.reduce_each,
        micro_batches=micro_batches,
        norm_itemsize=max((one.weight_bytes for one in tensors if one.trained), default=0),
    )


def _weight(tensor: Tensor, settings: FSDPPlan | None) -> Weight:
    gathered = settings.param_dtype if settings else None
    reduced = (settings.reduce_dtype or gathered) if settings else None
    itemsize = BYTES[gathered] if gathered else tensor.weight_bytes
    gradient = BYTES[reduced] if reduced else tensor.weight_bytes
    return Weight(tensor.shape, itemsize, gradient if tensor.trained else 0)
