"""How many workers a smoke run starts, and what of FSDP's and DeepSpeed's settings its toy cannot have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from axo.plan.facts import Hardware
from axo.recipe.recipe import Recipe
from axo.workflows.smoke_keys import ToyKeys

WORKERS = 2
"""Enough for anything to be split."""
SMALL_UNIT = 1000
"""Parameters of a unit of FSDP in a toy, of which most layers have more."""
NOT_SPLIT = "there is one GPU here, and nothing to split a model among"


def worker_keys(recipe: Recipe, *, hardware: Hardware, stand_in: bool) -> ToyKeys:
    """`stand_in`: another architecture than the recipe's. A recipe that is for several devices runs on two workers,
    copies of a split model (HSDP) on two times two, where the machine has no GPU or so many."""
    engines = recipe.engines
    wanted = _wanted(recipe)
    most = len(hardware.devices) or wanted
    workers = min(wanted, most if most < WORKERS else most // WORKERS * WORKERS)
    replaced: dict[str, Any] = {"world_size": workers}
    left_out = (
        {"deepspeed": "the package deepspeed is not installed here"} if _lacks_deepspeed(recipe, hardware) else {}
    )
    sizes = {"dp_shard_size": WORKERS, "dp_replicate_size": workers // WORKERS}
    for key, size in sizes.items():
        if (getattr(engines, key) or 1) > 1:
            replaced |= {key: size} if size > 1 else {}
            left_out |= {} if size > 1 else {key: f"there are {workers} workers"}
    if workers == 1 and wanted > 1:
        split = ("fsdp_config", "fsdp_version", "dp_shard_size", "dp_replicate_size")
        left_out |= dict.fromkeys((key for key in split if getattr(engines, key) is not None), NOT_SPLIT)
        replaced = {key: value for key, value in replaced.items() if key not in left_out}
    elif engines.fsdp_config is not None:
        replaced["fsdp_config"] = dict(_fsdp(recipe, stand_in=stand_in))
    return ToyKeys(replaced, left_out)


def _wanted(recipe: Recipe) -> int:
    engines = recipe.engines
    if (engines.dp_replicate_size or 1) > 1:
        return WORKERS * WORKERS
    split = engines.fsdp_config is not None or engines.deepspeed is not None or (engines.dp_shard_size or 1) > 1
    return WORKERS if split or (engines.world_size or 1) > 1 else 1


def _lacks_deepspeed(recipe: Recipe, hardware: Hardware) -> bool:
    return recipe.engines.deepspeed is not None and "deepspeed" not in hardware.packages


def _fsdp(recipe: Recipe, *, stand_in: bool) -> Iterator[tuple[str, Any]]:
    """The block with units of the toy's size; the trained model is whole, so that plain transformers can open it."""
    assert recipe.engines.fsdp_config is not None
    for key, value in recipe.engines.fsdp_config.model_dump(exclude_unset=True).items():
        if key == "transformer_layer_cls_to_wrap" and stand_in:
            continue
        if key == "min_num_params":
            yield key, min(value, SMALL_UNIT)
        else:
            yield key, "FULL_STATE_DICT" if key == "final_state_dict_type" else value
