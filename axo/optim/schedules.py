"""The learning rate of each step, as pure functions.

Step k is counted from 0 and runs at learning_rate * factor(k), as under transformers' get_*_schedule_with_warmup.
Warmup rises from 0, so step 0 of a run with warmup moves nothing; the last planned step is total_steps - 1 and its
factor, one step before the lowest value, is the end of the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from axo.recipe.optim import OptimSection
from axo.registry.tables import SCHEDULES


def make_schedule(section: OptimSection, *, total_steps: int, warmup_steps: int) -> Callable[[int], float]:
    """The learning rate of step k, k from 0 to total_steps - 1."""
    factor = SCHEDULES.load(section.lr_scheduler)
    min_ratio = section.cosine_min_lr_ratio or 0.0

    def learning_rate(step: int) -> float:
        return section.learning_rate * factor(
            step, total_steps=total_steps, warmup_steps=warmup_steps, min_ratio=min_ratio
        )

    return learning_rate


def cosine(step: int, *, total_steps: int, warmup_steps: int, min_ratio: float = 0.0) -> float:
    """Half a cosine from 1 to min_ratio (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, one cycle)."""
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    progress = _progress(step, total_steps=total_steps, warmup_steps=warmup_steps)
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def linear(step: int, *, total_steps: int, warmup_steps: int, min_ratio: float = 0.0) -> float:
    """A straight line from 1 to 0; as in Axolotl, min_ratio is cosine's alone."""
    del min_ratio
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    progress = _progress(step, total_steps=total_steps, warmup_steps=warmup_steps)
    return 1 - progress


def constant(step: int, *, total_steps: int, warmup_steps: int, min_ratio: float = 0.0) -> float:
    """1 after warmup, to the end."""
    del total_steps, min_ratio
    return _warmup(step, warmup_steps) if step < warmup_steps else 1.0


def _warmup(step: int, warmup_steps: int) -> float:
    return step / warmup_steps


def _progress(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """0 at the end of warmup, 1 at total_steps and beyond."""
    return min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
