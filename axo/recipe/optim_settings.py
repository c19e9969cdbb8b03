"""What optim_args and lr_scheduler_kwargs may hold: the settings of each optimizer and of each schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from axo.errors import Finding
from axo.recipe.describe import found, one_of
from axo.recipe.optim import OptimSection
from axo.registry.registry import did_you_mean


@dataclass(frozen=True)
class Number:
    """A number from `least` on, and below `below`; the least itself may be left out."""

    least: float = 0.0
    below: float = inf
    above: bool = False
    whole: bool = False

    def read(self, value: Any) -> float | int:
        """Raises ValueError where `value`, a number or its text, is none."""
        number = float(_no_switch(value))
        if not isfinite(number) or not self.least <= number < self.below or (self.above and number == self.least):
            raise ValueError
        if self.whole and number != int(number):
            raise ValueError
        return int(number) if self.whole else number

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        least = "" if self.least == -inf else f" above {self.least:g}" if self.above else f" from {self.least:g} on"
        return kind + least + ("" if self.below == inf else f"{' and' if least else ''} below {self.below:g}")


@dataclass(frozen=True)
class Switch:
    """True or false."""

    def read(self, value: Any) -> bool:
        """Raises ValueError for anything else."""
        return {"true": True, "false": False}[str(value).strip().lower()]

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Words:
    """One of some words."""

    words: tuple[str, ...]

    def read(self, value: Any) -> str:
        """Raises ValueError for another one."""
        if value not in self.words:
            raise ValueError
        return value

    def __str__(self) -> str:
        return one_of(self.words)


Settings = Mapping[str, Number | Switch | Words]
_UNKNOWN: Settings = {}

_SHARE, _POSITIVE, _COUNT, _SWITCH = Number(below=1), Number(above=True), Number(least=1, whole=True), Switch()
_BNB: Settings = {"min_8bit_size": Number(whole=True)}
_ADEMAMIX: Settings = {
    "beta1": _SHARE, "beta2": _SHARE, "beta3": _SHARE, "alpha": Number(), "eps": _POSITIVE, "t_alpha": _COUNT,
    "t_beta3": _COUNT, **_BNB,
}  # fmt: skip
_RMSPROP_BNB: Settings = {"alpha": Number(below=1, above=True), "eps": _POSITIVE, **_BNB}
_TORCHAO: Settings = {"block_size": _COUNT, "bf16_stochastic_round": _SWITCH}
OPTIMIZER_SETTINGS: Mapping[str, Settings] = {
    "adamw_torch": {"amsgrad": _SWITCH},
    "adamw_torch_fused": {"amsgrad": _SWITCH},
    "adafactor": {
        "clip_threshold": _POSITIVE, "decay_rate": Number(-inf, below=0), "beta1": _SHARE, "scale_parameter": _SWITCH,
    },
    "sgd": {"momentum": Number(), "dampening": Number(), "nesterov": _SWITCH},
    "adagrad": {"lr_decay": Number(), "eps": _POSITIVE},
    "rmsprop": {"momentum": Number(), "alpha": Number(below=1), "eps": _POSITIVE, "centered": _SWITCH},
    "muon": {
        "momentum": _SHARE, "nesterov": _SWITCH, "ns_steps": Number(least=1, below=100, whole=True),
        "adjust_lr_fn": Words(("match_rms_adamw", "original")),
    },
    "lion_pytorch": {},
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"), _BNB),
    **dict.fromkeys(("lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit"), _BNB),
    **dict.fromkeys(("ademamix", "ademamix_8bit", "paged_ademamix_8bit", "paged_ademamix_32bit"), _ADEMAMIX),
    **dict.fromkeys(("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"), _RMSPROP_BNB),
    **dict.fromkeys(("adamw_torch_8bit", "adamw_torch_4bit", "ao_adamw_8bit", "ao_adamw_4bit"), _TORCHAO),
}  # fmt: skip
"""Optimizer -> what optim_args may hold: those parameters of the upstream class that no key of a recipe sets."""

_CYCLES: Settings = {"num_cycles": _POSITIVE}
_LOWEST: Settings = {**_CYCLES, "min_lr": Number(), "min_lr_rate": Number(below=1)}
SCHEDULE_SETTINGS: Mapping[str, Settings] = {
    "cosine": _CYCLES,
    "linear": {},
    "constant": {},
    "constant_with_warmup": {},
    "cosine_with_restarts": {"num_cycles": _COUNT},
    "cosine_with_min_lr": _LOWEST,
    "cosine_warmup_with_min_lr": {**_LOWEST, "warmup_lr_rate": Number()},
    "polynomial": {"lr_end": Number(), "power": _POSITIVE},
    "inverse_sqrt": {"timescale": _COUNT},
    "one_cycle": {
        "pct_start": Number(below=1), "anneal_strategy": Words(("cos", "linear")), "div_factor": _POSITIVE,
        "final_div_factor": _POSITIVE, "three_phase": _SWITCH, "cycle_momentum": _SWITCH,
    },
    "rex": {},
    "warmup_stable_decay": {
        "num_decay_steps": _COUNT, "num_stable_steps": Number(whole=True), "min_lr_ratio": Number(below=1),
        "warmup_type": Words(("linear", "cosine", "1-sqrt")), "decay_type": Words(("linear", "cosine", "1-sqrt")),
        **_CYCLES,
    },
}  # fmt: skip
"""Schedule -> what lr_scheduler_kwargs may hold: parameters of transformers' get_..._schedule functions and of torch's
OneCycleLR."""
LR_END = 1e-7
"""transformers.get_polynomial_decay_schedule_with_warmup's lr_end: a learning rate and no share."""


def optimizer_settings(section: OptimSection, *, name: str | None = None) -> dict[str, Any]:
    """What optim_args sets; of another optimizer `name` that runs in its place, what that one knows of it; nothing of
    an optimizer that axo cannot run yet."""
    accepted = OPTIMIZER_SETTINGS.get(section.optimizer, _UNKNOWN)
    values = {key: accepted[key].read(value) for key, value in _pairs(section.optim_args) if key in accepted}
    known = OPTIMIZER_SETTINGS.get(name or section.optimizer, _UNKNOWN)
    return {key: value for key, value in values.items() if key in known}


def schedule_settings(section: OptimSection) -> dict[str, Any]:
    """What lr_scheduler_kwargs sets; nothing of a schedule that axo cannot run yet."""
    accepted = SCHEDULE_SETTINGS.get(section.lr_scheduler, _UNKNOWN)
    given = section.lr_scheduler_kwargs or {}
    return {key: accepted[key].read(value) for key, value in given.items() if key in accepted}


def setting_faults(section: OptimSection) -> Iterator[Finding]:
    """Settings that are not those of the optimizer or the schedule, or have values that they do not take."""
    optimizer, schedule = section.optimizer, section.lr_scheduler
    known = OPTIMIZER_SETTINGS.get(optimizer)
    for key, value in _pairs(section.optim_args) if known is not None else ():
        yield from _fault("optim_args", key, value, known or {}, f"optimizer: {optimizer}")
    known = SCHEDULE_SETTINGS.get(schedule)
    for key, value in (section.lr_scheduler_kwargs or {}).items() if known is not None else ():
        yield from _fault("lr_scheduler_kwargs", key, value, known or {}, f"lr_scheduler: {schedule}")


def _fault(at: str, key: str, value: Any, accepted: Settings, of: str) -> Iterator[Finding]:
    if key not in accepted:
        takes = f"it takes {', '.join(accepted)}" if accepted else f"it takes none; remove {at}"
        hint = did_you_mean(key, accepted)
        yield Finding(at, f"{of} has no setting {key!r}; {takes}", hint or "remove it, or choose one of these")
        return
    try:
        accepted[key].read(value)
    except (ValueError, TypeError, KeyError):
        example = f"give {key} as {accepted[key]}, or remove it"
        yield Finding(at, f"{key}: found {found(value, key=key)}, expected {accepted[key]}", example)


def _pairs(given: str | Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """A mapping as it is; of text `a=1, b=true` each pair, the value None where there is no `=`."""
    if isinstance(given, str):
        for pair in filter(None, given.replace(" ", "").split(",")):
            key, equals, value = pair.partition("=")
            yield key, value if equals else None
    else:
        yield from (given or {}).items()


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        raise ValueError
    return value
