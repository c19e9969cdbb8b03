"""Schedules that stay, or fall in a line, a power, a root or a reflected exponential."""

from __future__ import annotations

import math

SHARPNESS = 0.9
"""Of rex in IvanVassi/REX_LR and in Axolotl's RexLR; Chen et al. 2021 (arXiv 2107.04197) have 0.5."""


def constant(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """1 from the first step to the last."""
    del step, total_steps, warmup_steps
    return 1.0


def constant_with_warmup(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """1 after warmup, to the end."""
    del total_steps
    return warmup(step, warmup_steps) if step < warmup_steps else 1.0


def linear(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """A straight line from 1 to 0."""
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    return 1 - progress(step, total_steps=total_steps, warmup_steps=warmup_steps)


def polynomial(step: int, *, total_steps: int, warmup_steps: int, end_rate: float, power: float = 1.0) -> float:
    """end_rate + (1 - end_rate) (1 - t)**power, with t the share of the steps after warmup that are over."""
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    left = 1 - progress(step, total_steps=total_steps, warmup_steps=warmup_steps)
    return end_rate + (1 - end_rate) * left**power


def inverse_sqrt(step: int, *, total_steps: int, warmup_steps: int, timescale: int | None = None) -> float:
    """1 / sqrt(1 + (step - warmup_steps) / timescale); a timescale of as many steps as warmup has, else 10,000
    (transformers.get_inverse_sqrt_schedule)."""
    del total_steps
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    scale = timescale or warmup_steps or 10_000
    return 1 / math.sqrt((step + scale - warmup_steps) / scale)


def rex(step: int, *, total_steps: int, warmup_steps: int, min_ratio: float = 0.0) -> float:
    """Reflected exponential (Chen et al. 2021, arXiv 2107.04197): min_ratio + (1 - min_ratio) z / (0.1 + 0.9 z), with z
    the share of the steps after warmup that are left.

    As in Axolotl's RexLR the first step is counted as 1: warmup begins at 1 / warmup_steps, and the last step runs at
    the lowest value."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    left = 1 - progress(step + 1, total_steps=total_steps, warmup_steps=warmup_steps)
    return min_ratio + (1 - min_ratio) * left / (1 - SHARPNESS + SHARPNESS * left)


def warmup_stable_decay(
    step: int,
    *,
    total_steps: int,
    warmup_steps: int,
    num_decay_steps: int,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> float:
    """From min_lr_ratio up to 1, there for num_stable_steps (unset: all that warmup and decay leave), down to
    min_lr_ratio, and there to the end (transformers.get_wsd_schedule)."""
    stable = total_steps - warmup_steps - num_decay_steps if num_stable_steps is None else num_stable_steps
    since = step - warmup_steps - stable
    if step < warmup_steps:
        rising = {"linear": _up, "cosine": _cosine_up, "1-sqrt": _root_up}[warmup_type](warmup(step, warmup_steps))
        return max(0.0, min_lr_ratio + (1 - min_lr_ratio) * rising)
    if since < 0:
        return 1.0
    if since >= num_decay_steps:
        return min_lr_ratio
    over = since / num_decay_steps
    waves = 0.5 * (1 + math.cos(2 * math.pi * num_cycles * over))
    falling = {"linear": 1 - over, "cosine": waves, "1-sqrt": 1 - math.sqrt(over)}[decay_type]
    return max(0.0, min_lr_ratio + (1 - min_lr_ratio) * falling)


def warmup(step: int, warmup_steps: int) -> float:
    """A straight line from 0 to 1."""
    return step / warmup_steps


def progress(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """0 at the end of warmup, 1 at total_steps and beyond."""
    return min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))


def _up(over: float) -> float:
    return over


def _cosine_up(over: float) -> float:
    return 0.5 * (1 - math.cos(math.pi * over))


def _root_up(over: float) -> float:
    return 1 - math.sqrt(1 - over)
