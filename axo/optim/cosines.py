"""Schedules that fall along a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5).

`num_cycles` counts whole waves after warmup: half a wave falls from the highest value to the lowest."""

from __future__ import annotations

import math

from axo.optim.decays import progress, warmup


def cosine(
    step: int,
    *,
    total_steps: int,
    warmup_steps: int,
    num_cycles: float = 0.5,
    min_ratio: float = 0.0,
    constant_ratio: float | None = None,
    quadratic_warmup: bool = False,
) -> float:
    """From 1 to min_ratio, after the share constant_ratio of the steps already where it is set; warmup may rise with
    the square of the step (Axolotl's get_cosine_schedule_with_warmup_decay_constant and ..._quadratic_warmup)."""
    if step < warmup_steps:
        return warmup(step, warmup_steps) ** (2 if quadratic_warmup else 1)
    end = total_steps if constant_ratio is None else int(total_steps * constant_ratio)
    return _wave(_share(min(step, end), end=end, warmup_steps=warmup_steps), num_cycles, lowest=min_ratio)


def cosine_with_min_lr(
    step: int, *, total_steps: int, warmup_steps: int, min_lr_rate: float, num_cycles: float = 0.5
) -> float:
    """From 1 to min_lr_rate (transformers.get_cosine_with_min_lr_schedule_with_warmup)."""
    return cosine(
        step, total_steps=total_steps, warmup_steps=warmup_steps, num_cycles=num_cycles, min_ratio=min_lr_rate
    )


def cosine_warmup_with_min_lr(
    step: int,
    *,
    total_steps: int,
    warmup_steps: int,
    min_lr_rate: float,
    num_cycles: float = 0.5,
    warmup_lr_rate: float | None = None,
) -> float:
    """Warmup begins at warmup_lr_rate, or where that is unset at 1 / warmup_steps; the last step runs at min_lr_rate
    (transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate)."""
    if step < warmup_steps:
        if warmup_lr_rate is None:
            return (step + 1) / warmup_steps
        return warmup_lr_rate + (1 - warmup_lr_rate) * step / max(1, warmup_steps - 1)
    return _wave(_share(step + 1, end=total_steps, warmup_steps=warmup_steps), num_cycles, lowest=min_lr_rate)


def cosine_with_restarts(step: int, *, total_steps: int, warmup_steps: int, num_cycles: int = 1) -> float:
    """From 1 to 0 num_cycles times, with a jump back to 1 between
    (transformers.get_cosine_with_hard_restarts_schedule_with_warmup)."""
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    over = progress(step, total_steps=total_steps, warmup_steps=warmup_steps)
    return 0.0 if over >= 1 else max(0.0, _wave((num_cycles * over) % 1.0, 0.5, lowest=0.0))


def _wave(over: float, num_cycles: float, *, lowest: float) -> float:
    height = 0.5 * (1 + math.cos(2 * math.pi * num_cycles * over))
    return max(0.0, lowest + (1 - lowest) * height)


def _share(step: int, *, end: int, warmup_steps: int) -> float:
    """Below 0 where the schedule ends within warmup."""
    return (step - warmup_steps) / max(1, end - warmup_steps)
