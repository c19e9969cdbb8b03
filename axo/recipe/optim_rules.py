"""Rules about optimizers, learning rates and their schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from axo.errors import Finding
from axo.recipe.optim import OptimSection
from axo.recipe.optim_settings import (
    LR_END,
    OPTIMIZER_SETTINGS,
    SCHEDULE_SETTINGS,
    optimizer_settings,
    schedule_settings,
    setting_faults,
)
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.table_rules import Excludes, Keys, Needs, Only, above, on


def warmup(recipe: Recipe) -> list[Finding]:
    """Warmup is given in steps or as a share, not as both."""
    steps, ratio = recipe.optim.warmup_steps, recipe.optim.warmup_ratio
    if steps is None or ratio is None or not (steps or ratio):
        return []
    message = "warmup_steps is given too, and only one of the two can hold"
    return [Finding("warmup_ratio", message, "remove warmup_steps or warmup_ratio")]


def restarts(recipe: Recipe) -> list[Finding]:
    """Warmup and annealing of a restart fit between two restarts."""
    keys = Keys(recipe)
    total = keys["jagged_restart_steps"]
    used = sum(keys[f"jagged_restart_{part}_steps"] or 0 for part in ("warmup", "anneal"))
    if not total or used <= total:
        return []
    message = f"{total} is below jagged_restart_warmup_steps + jagged_restart_anneal_steps, {used}"
    return [Finding("jagged_restart_steps", message, "raise it, or lower the other two")]


def settings(recipe: Recipe) -> list[Finding]:
    """optim_args and lr_scheduler_kwargs hold settings of the optimizer and of the schedule, which fit together."""
    optim = recipe.optim
    faults = list(setting_faults(optim))
    if faults or optim.optimizer not in OPTIMIZER_SETTINGS or optim.lr_scheduler not in SCHEDULE_SETTINGS:
        return faults
    return [*_momentum(optim, optimizer_settings(optim)), *_rates(optim, schedule_settings(optim))]


def _momentum(optim: OptimSection, given: Mapping[str, Any]) -> Iterator[Finding]:
    if optim.optimizer == "sgd" and given.get("nesterov") and (not given.get("momentum") or given.get("dampening")):
        message = "nesterov: true needs momentum, and no dampening"
        yield Finding("optim_args", message, "for example optim_args: {momentum: 0.9, nesterov: true}")


def _rates(optim: OptimSection, given: Mapping[str, Any]) -> Iterator[Finding]:
    key, peak = "lr_scheduler_kwargs", optim.learning_rate
    if optim.lr_scheduler in ("cosine_with_min_lr", "cosine_warmup_with_min_lr") and given:
        if ("min_lr" in given) == ("min_lr_rate" in given):
            yield Finding(
                key, "one of min_lr and min_lr_rate is needed, and only one", "for example {min_lr_rate: 0.1}"
            )
        elif given.get("min_lr", 0) > peak:
            yield Finding(key, f"min_lr {given['min_lr']:g} is above learning_rate, {peak:g}", "lower it")
    if optim.lr_scheduler == "polynomial" and given.get("lr_end", LR_END) >= peak:
        end = given.get("lr_end", LR_END)
        yield Finding(key, f"lr_end {end:g} is not below learning_rate, {peak:g}", "for example {lr_end: 0}")
    if optim.lr_scheduler == "warmup_stable_decay" and given and "num_decay_steps" not in given:
        yield Finding(key, "num_decay_steps is missing", "for example {num_decay_steps: 100}")
    if given.get("cycle_momentum"):
        yield Finding(key, "cycle_momentum: true is not supported: only the learning rate is scheduled", "remove it")


def remarks(recipe: Recipe) -> list[Note]:
    """Keys that the optimizer, the schedule or the length of the run leave without effect."""
    optim, run = recipe.optim, recipe.run
    said: list[Note] = []
    if optim.optimizer in WITHOUT_MOMENTS:
        idle = [key for key in _ADAM if key in optim.model_fields_set]
        said += [Remark((key,), f"optimizer is {optim.optimizer}") for key in idle]
    elif "lion" in optim.optimizer and "adam_epsilon" in optim.model_fields_set:
        said.append(Remark(("adam_epsilon",), f"{optim.optimizer} divides by no root"))
    if optim.lr_scheduler == "constant":
        warm = [key for key in ("warmup_steps", "warmup_ratio") if getattr(optim, key)]
        said += [Remark((key,), "lr_scheduler constant has no warmup, constant_with_warmup has") for key in warm]
    elif run.max_steps is not None and (optim.warmup_steps or 0) >= run.max_steps:
        said.append(f"learning_rate is never reached: max_steps ({run.max_steps}) ends the run within warmup_steps")
    if optim.lr_scheduler == "one_cycle" and "pct_start" in (optim.lr_scheduler_kwargs or {}):
        warm = [key for key in ("warmup_steps", "warmup_ratio") if getattr(optim, key)]
        said += [Remark((key,), "pct_start of lr_scheduler_kwargs says how long the rise is") for key in warm]
    if optim.cosine_min_lr_ratio is not None and optim.lr_scheduler not in ("cosine", "rex"):
        said.append(Remark(("cosine_min_lr_ratio",), f"lr_scheduler is {optim.lr_scheduler}"))
    if run.max_steps is not None and "num_epochs" in run.model_fields_set:
        said.append(Remark(("num_epochs",), "max_steps ends the run"))
    return said


_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
WITHOUT_MOMENTS = (
    "adafactor adagrad adalomo flash_sgd flash_sgdw lomo rmsprop rmsprop_bnb rmsprop_bnb_32bit rmsprop_bnb_8bit "
    "schedule_free_sgd sgd sinkgd"
).split()
"""Optimizers that read none of the adam_ keys."""
_GALORE = tuple(
    "apollo_adamw apollo_adamw_layerwise galore_adafactor galore_adafactor_layerwise galore_adamw galore_adamw_8bit "
    "galore_adamw_8bit_layerwise galore_adamw_layerwise".split()
)
_LAYERWISE = (
    "apollo_adamw_layerwise", "galore_adafactor_layerwise", "galore_adamw_8bit_layerwise", "galore_adamw_layerwise",
    "lomo", "adalomo",
)  # fmt: skip
_FLASH = ("flash_adam", "flash_adamw", "flash_lion", "flash_sgd", "flash_sgdw")
LAWS = (
    Excludes(on("embedding_lr"), on("embedding_lr_scale"), "both set one learning rate", "keep one of the two"),
    Excludes(
        on("embedding_lr"), on("loraplus_lr_ratio"), "LoRA+ sets the learning rate of every weight",
        "set loraplus_lr_embedding instead, or remove one of the two",
    ),
    Excludes(
        on("embedding_lr_scale"), on("loraplus_lr_ratio"), "LoRA+ sets the learning rate of every weight",
        "set loraplus_lr_embedding instead, or remove one of the two",
    ),
    Only(("dion_lr", "dion_momentum", "dion_rank_fraction", "dion_rank_multiple_of"), (on("optimizer", "dion"),)),
    Only(
        ("qgalore_rank", "qgalore_update_proj_gap", "qgalore_scale", "qgalore_proj_type", "qgalore_proj_quant",
         "qgalore_proj_bits", "qgalore_proj_group_size", "qgalore_cos_threshold", "qgalore_gamma_proj",
         "qgalore_queue_size"),
        (on("optimizer", "q_galore_adamw8bit"),),
    ),
    Only(("adam_beta3", "adam_epsilon2"), (on("optimizer", "came_pytorch"),)),
    Only(("torchdistx_path",), (on("optimizer", "adamw_anyprecision"),)),
    Only(("optim_target_modules",), (on("optimizer", *_GALORE, "q_galore_adamw8bit"),),
         "choose one of the galore_, q_galore_ or apollo_ optimizers, or remove it"),
    Needs(
        on("optimizer", *_GALORE), (on("optim_target_modules"),), "only named modules are projected",
        "for example optim_target_modules: [attn, mlp]",
    ),
    Excludes(
        on("optimizer", "q_galore_adamw8bit"), on("adapter"), "it projects whole weights, an adapter is small already",
        "remove adapter, or choose another optimizer",
    ),
    Excludes(
        on("optimizer", "q_galore_adamw8bit"), on("deepspeed"), "it needs whole gradients, DeepSpeed splits them",
        "use several devices without deepspeed, or choose another optimizer",
    ),
    Excludes(
        on("optimizer", "muon"), on("deepspeed"), "it needs whole matrices, DeepSpeed splits them",
        "set fsdp_config instead of deepspeed, or choose another optimizer",
    ),
    Excludes(
        on("optimizer", *_FLASH), on("deepspeed"), "DeepSpeed keeps the weights that this optimizer would keep",
        "set fsdp_config instead of deepspeed, or choose another optimizer",
    ),
    Excludes(
        on("optimizer", "adamw_8bit", "adamw_bnb_8bit"), on("fsdp_config"),
        "bitsandbytes cannot update weights that FSDP splits", "set optimizer: adamw_torch_fused",
    ),
    Excludes(
        on("optimizer", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"), above("tensor_parallel_size", 1),
        "bitsandbytes cannot update weights that are split over devices", "set optimizer: adamw_torch_fused",
    ),
    Excludes(
        on("optimizer", *_LAYERWISE), above("gradient_accumulation_steps", 1),
        "it updates each layer during the backward pass, before gradients can add up",
        "set gradient_accumulation_steps: 1 and raise micro_batch_size",
    ),
    Only(("lr_quadratic_warmup",), (on("lr_scheduler", "cosine"),)),
    Only(("cosine_constant_lr_ratio",), (on("lr_scheduler", "cosine"),)),
    Needs(
        on("cosine_constant_lr_ratio"), (on("cosine_min_lr_ratio"),), "the learning rate that stays constant",
        "for example cosine_min_lr_ratio: 0.1",
    ),
    Excludes(
        on("lr_quadratic_warmup"), on("cosine_min_lr_ratio"), "that shape falls to 0", "remove one of the two"
    ),
    Needs(
        on("lr_scheduler", "cosine_with_min_lr", "cosine_warmup_with_min_lr"), (on("lr_scheduler_kwargs"),),
        "the lowest learning rate", "for example lr_scheduler_kwargs: {min_lr_rate: 0.1}",
    ),
    Needs(
        on("lr_scheduler", "warmup_stable_decay"), (on("lr_scheduler_kwargs"),), "the steps of its parts",
        "for example lr_scheduler_kwargs: {num_decay_steps: 100}",
    ),
)  # fmt: skip
