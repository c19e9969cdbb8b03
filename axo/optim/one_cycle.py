"""The one-cycle schedule (Smith and Topin 2018, arXiv 1708.07120), as torch's OneCycleLR has it."""

from __future__ import annotations

import math


def one_cycle(
    step: int,
    *,
    total_steps: int,
    warmup_steps: int,
    pct_start: float | None = None,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> float:
    """From 1 / div_factor up to 1, and down to 1 / (div_factor * final_div_factor), which the last step runs at; with
    three_phase down to 1 / div_factor first, as fast as up.

    The rise takes the share pct_start of the steps; unset, as in Axolotl: that of warmup_steps."""
    share = warmup_steps / total_steps if pct_start is None else pct_start
    first, last = 1 / div_factor, 1 / (div_factor * final_div_factor)
    top = share * total_steps - 1
    phases = [(0.0, top, first, 1.0), (top, total_steps - 1.0, 1.0, last)]
    if three_phase:
        middle = 2 * share * total_steps - 2
        phases[1:] = [(top, middle, 1.0, first), (middle, total_steps - 1.0, first, last)]
    start, end, high, low = next((phase for phase in phases if step <= phase[1]), phases[-1])
    over = 1.0 if end == start else (step - start) / (end - start)
    if anneal_strategy == "linear":
        return high + (low - high) * over
    return low + (high - low) / 2 * (1 + math.cos(math.pi * over))
