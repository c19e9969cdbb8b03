"""Closed formulas for steps, warmup and cadences; every count is in optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from axo.plan.plan import Cadence


def steps_per_epoch(packs: int, *, packs_per_step: int) -> int:
    """Steps that see every pack once; the last one may be smaller."""
    return ceil(packs / packs_per_step)


def total_steps(*, per_epoch: int, num_epochs: float, max_steps: int | None) -> int:
    """max_steps, else num_epochs passes rounded up to a whole step (as transformers.Trainer)."""
    return max_steps if max_steps is not None else ceil(num_epochs * per_epoch)


def total_steps_of(steps: Sequence[int], *, num_epochs: float) -> int:
    """num_epochs passes over epochs of so many steps each, the last one rounded up to a whole step."""
    whole = int(num_epochs)
    rest = num_epochs - whole
    return sum(steps[:whole]) + (ceil(rest * steps[whole]) if rest else 0)


def warmup_steps(total: int, *, steps: int | None, ratio: float | None) -> int:
    """As asked, but a single step becomes two, as the learning rate of the first is 0 (axolotl
    core/builders/base.py)."""
    asked = asked_warmup(total, steps=steps, ratio=ratio)
    return 2 if asked == 1 else asked


def asked_warmup(total: int, *, steps: int | None, ratio: float | None) -> int:
    """The asked steps; or the asked share of all steps, rounded down; or 3 % of them and at most 100 (axolotl
    core/builders/base.py)."""
    if steps is not None:
        return steps
    return min(int(0.03 * total), 100) if ratio is None else int(ratio * total)


def logging_steps(total: int, *, asked: int | None) -> int:
    """The asked steps, else 0.5 % of all steps, from 1 to 10 (axolotl core/builders/base.py)."""
    return asked if asked is not None else max(min(int(0.005 * total), 10), 1)


def cadence(
    *,
    strategy: str | bool | None,
    steps: float | None,
    per_epoch: int | None,
    total: int,
    num_epochs: float,
) -> Cadence | None:
    """When to evaluate or save, in Axolotl's meaning: a number of steps, a share of all steps below 1, or so many
    times in each of `num_epochs` (a share of all steps too, also where max_steps cuts the epochs short); by default
    at the end of each epoch; None for the strategy `no` and for no times an epoch."""
    if strategy in ("no", False) or per_epoch == 0:
        return None
    if steps is not None:
        return Cadence(steps=max(1, ceil(steps * total) if steps < 1 else int(steps)))
    if per_epoch is not None and strategy != "epoch":
        return Cadence(steps=max(1, ceil(total / (per_epoch * num_epochs))))
    return Cadence(epoch=True)


def is_due(when: Cadence | None, *, step: int, epoch_end: bool, last: bool) -> bool:
    """Whether the cadence falls on the end of this step (counted from 1). The last step is an epoch's end."""
    if when is None:
        return False
    if when.steps is not None and step % when.steps == 0:
        return True
    return when.epoch and (epoch_end or last)
