"""The learning rate of each step, as a pure function of the step.

Step k is counted from 0 and runs at learning_rate * factor(k). A schedule is a function `factor(step, *, total_steps,
warmup_steps, **settings)`; its settings bear the names of lr_scheduler_kwargs, rates among them as shares of
learning_rate. Where nothing else is said, warmup rises in a straight line from 0, as under transformers'
get_*_schedule_with_warmup, so step 0 of a run with warmup moves nothing; the last planned step is total_steps - 1 and
its factor, one step before the lowest value, is the end of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from axo.recipe.optim import OptimSection
from axo.recipe.optim_settings import LR_END, schedule_settings
from axo.registry.tables import SCHEDULES

_RATES = {"min_lr": "min_lr_rate", "lr_end": "end_rate"}
"""Settings that are learning rates -> the share of learning_rate that a schedule takes."""


def make_schedule(section: OptimSection, *, total_steps: int, warmup_steps: int) -> Callable[[int], float]:
    """The learning rate of step k, k from 0 to total_steps - 1."""
    factor = SCHEDULES.load(section.lr_scheduler)
    settings = _settings(section)

    def learning_rate(step: int) -> float:
        return section.learning_rate * factor(step, total_steps=total_steps, warmup_steps=warmup_steps, **settings)

    return learning_rate


def _settings(section: OptimSection) -> dict[str, Any]:
    settings = schedule_settings(section)
    settings.pop("cycle_momentum", None)  # a rule: false, for nothing but the learning rate is scheduled
    if section.lr_scheduler == "polynomial":
        settings.setdefault("lr_end", LR_END)
    if section.lr_scheduler in ("cosine", "rex"):
        settings["min_ratio"] = section.cosine_min_lr_ratio or 0.0
    if section.lr_scheduler == "cosine":
        settings["constant_ratio"] = section.cosine_constant_lr_ratio
        settings["quadratic_warmup"] = bool(section.lr_quadratic_warmup)
    shares = {_RATES[key]: settings.pop(key) / section.learning_rate for key in _RATES if key in settings}
    return {**settings, **shares}
