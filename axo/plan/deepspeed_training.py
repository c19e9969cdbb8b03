"""The blocks `optimizer` and `scheduler` of DeepSpeed's configuration: both are the recipe's, so they must ask for what
it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from axo.errors import Finding
from axo.plan.deepspeed_file import Written
from axo.plan.deepspeed_filled import AUTO, conflict, differs
from axo.recipe.optim import OptimSection

_OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "adam": ("adamw_torch", "adamw_torch_fused"),  # with adam_w_mode, DeepSpeed's default
    "adamw": ("adamw_torch", "adamw_torch_fused"),
    "lion": ("lion_pytorch",),
    "sgd": ("sgd",),
}
"""DeepSpeed's name in lower case -> the recipe's optimizers that move weights in the same way."""
_NEUTRAL: Mapping[str, Any] = {"adam_w_mode": True, "bias_correction": True, "torch_adam": None, "freeze_step": None}
"""Parameters beside those of the recipe, and the value that says nothing new (None: any)."""
_SCHEDULES: Mapping[str, str] = {
    "WarmupLR": "constant_with_warmup", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"
}  # fmt: skip
"""As transformers' documentation pairs them."""


def check_training(written: Written, optim: OptimSection) -> Iterator[Finding]:
    """What contradicts optimizer, learning rate and schedule of the recipe."""
    if written.at("optimizer") is not None:
        yield from _optimizer(written, optim)
    if written.at("scheduler") is not None:
        yield from _scheduler(written, optim)


def _optimizer(written: Written, optim: OptimSection) -> Iterator[Finding]:
    name = written.at("optimizer.type")
    same = _OPTIMIZERS.get(str(name).lower(), ())
    if optim.optimizer not in same:
        message = f"is {name}, and optimizer of the recipe says {optim.optimizer}"
        hint = f"remove the block, or set optimizer: {same[-1]}" if same else "remove the block: the recipe names it"
        yield written.finding("optimizer.type", message, hint)
        return
    wanted: dict[str, tuple[str, Any]] = {
        "lr": ("learning_rate", optim.learning_rate),
        "weight_decay": ("weight_decay", optim.weight_decay),
        "betas": ("adam_beta1 and adam_beta2", [optim.adam_beta1, optim.adam_beta2]),
        "eps": ("adam_epsilon", optim.adam_epsilon),
    }
    given: Any = written.at("optimizer.params") or {}
    for key, value in cast("dict[str, Any]", given).items() if isinstance(given, dict) else ():
        place = f"optimizer.params.{key}"
        if key in wanted:
            if value != AUTO and _differ(value, wanted[key][1]):
                yield conflict(written, place, value, *wanted[key])
        elif key not in _NEUTRAL:
            yield written.finding(place, "is set here alone", "remove it; optim_args of the recipe holds such settings")
        elif _NEUTRAL[key] is not None and value != _NEUTRAL[key]:
            message = f"is {str(value).lower()}, and {optim.optimizer} is with {str(_NEUTRAL[key]).lower()}"
            yield written.finding(place, message, "remove it, or choose another optimizer in the recipe")


def _scheduler(written: Written, optim: OptimSection) -> Iterator[Finding]:
    """The recipe owns the schedule: a block that says the same in `auto` alone may stand there."""
    name = written.at("scheduler.type")
    same = _SCHEDULES.get(str(name))
    hint = f"remove the block, or set lr_scheduler: {same}" if same else "remove the block: the recipe's schedule runs"
    if same != optim.lr_scheduler:
        yield written.finding(
            "scheduler.type", f"is {name}, and lr_scheduler of the recipe is {optim.lr_scheduler}", hint
        )
        return
    given: Any = written.at("scheduler.params") or {}
    for key, value in cast("dict[str, Any]", given).items() if isinstance(given, dict) else ():
        if value != AUTO and not (key == "warmup_min_lr" and value == 0) and (key, value) != ("warmup_type", "linear"):
            message = f"is {value}, and the schedule is the recipe's"
            yield written.finding(f"scheduler.params.{key}", message, 'set "auto", or remove the block')


def _differ(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        pair, other = cast("list[Any]", wanted), cast("list[Any]", value) if isinstance(value, list) else []
        return len(other) != len(pair) or any(differs(one, two) for one, two in zip(other, pair, strict=True))
    return differs(value, wanted)
