"""Saves a checkpoint when its cadence says so, and always before a stop or a fault that a hook found."""

from __future__ import annotations

from axo.log import LOG
from axo.plan.plan import Cadence
from axo.plan.steps import is_due
from axo.train.checkpoint import Checkpoints
from axo.train.events import StepEnd


class SavingHook:
    def __init__(self, checkpoints: Checkpoints, *, when: Cadence | None) -> None:
        self._checkpoints = checkpoints
        self._when = when

    def after_step(self, end: StepEnd) -> None:
        due = is_due(self._when, step=end.metrics.step, epoch_end=end.epoch_end, last=end.last)
        failed = end.ending.fault is not None
        if due or failed or (end.stopping and not end.last):
            # A run that goes wrong must not push out the states of before.
            folder = self._checkpoints.save(end.progress.at_boundary(epoch_end=end.epoch_end), keep_all=failed)
            LOG.info("saved %s", folder)

    def close(self) -> None:
        return
