"""The training loop: batches of a step -> counts of all ranks -> accumulate -> update -> hooks."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import torch

from axo.engines.base import Engine
from axo.errors import TrainingError
from axo.train.events import Hook, Progress, StepEnd, StepMetrics
from axo.train.feed import Fed, Feed
from axo.train.hang import Mark, no_mark
from axo.train.stop import StopFlag
from axo.types import IGNORE_INDEX, Batch


class Counting(Protocol):
    """The parts of an objective that the loop needs."""

    def count(self, batch: Batch) -> float: ...

    def num_trained(self, batch: Batch) -> int: ...

    def loss_chunks(self, num_trained: int) -> int: ...


@dataclass(frozen=True)
class Loop:
    """What stays the same over all steps of a run."""

    engine: Engine
    objective: Counting
    feed: Feed
    """Gives the micro-batches of each step."""
    learning_rate: Callable[[int], float]
    """Learning rate of a step, counted from 0."""
    total_steps: int
    max_grad_norm: float
    stop: StopFlag
    set_names: tuple[str, ...] = ()
    """What the data sets are called whose numbers stand in Batch.sets."""
    mark: Mark = no_mark
    """Told what begins, so that a rank that hangs can be told from those that wait for it (axo/launch/stall.py)."""

    def train(self, progress: Progress, hooks: Sequence[Hook]) -> bool:
        """Train from `progress` to the last step, or to one that a hook calls the last; False where a stop was asked
        for before."""
        with closing(self.feed.steps(progress, total_steps=self.total_steps)) as steps:
            while progress.step < self.total_steps:
                started = perf_counter()
                self.mark(progress.step + 1, "batches")
                end = self._step(next(steps), progress, started)
                self.mark(progress.step, "after the step")
                for hook in hooks:
                    hook.after_step(end)
                if end.ending.fault is not None:
                    raise end.ending.fault
                if end.last or end.ending.finished:
                    return True
                if end.stopping:
                    return False
                if end.epoch_end:
                    progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        return True

    def _step(self, fed: Fed, progress: Progress, started: float) -> StepEnd:
        batches, counted = self._count(fed.batches(), step=progress.step + 1, stopping=fed.stopping)
        loss, set_losses = self._accumulate(batches, counted, step=progress.step + 1)
        trained_tokens = counted.trained_tokens
        lr = self.learning_rate(progress.step)
        self.mark(progress.step + 1, "update")
        update = self.engine.update(lr=lr, max_grad_norm=self.max_grad_norm)
        progress.step += 1
        progress.step_in_epoch += 1
        progress.trained_tokens += trained_tokens
        progress.skipped_steps += update.skipped
        progress.stream = fed.stream
        metrics = StepMetrics(
            step=progress.step,
            epoch=fed.epoch,
            loss=loss,
            lr=lr,
            grad_norm=None if update.skipped else update.grad_norm,
            trained_tokens=trained_tokens,
            tokens_per_second=trained_tokens / (perf_counter() - started),
            peak_memory_bytes=peak_memory_bytes(self.engine.device),
            set_losses=set_losses,
            rows=fed.rows,
            loss_scale=update.loss_scale,
            skipped_steps=None if update.loss_scale is None else progress.skipped_steps,
        )
        return StepEnd(
            metrics=metrics,
            progress=progress,
            epoch_end=fed.epoch_end,
            last=progress.step == self.total_steps,
            stopping=counted.stopping,
        )

    def _count(self, batches: list[Batch], *, step: int, stopping: bool) -> tuple[list[Batch], _Counted]:
        """One gather: divisor and trained tokens of all ranks, whether any rank has to stop, the number of loss
        chunks that the fullest micro-batch of any rank needs (collectives inside the head must match), and the divisor
        of each data set."""
        trained = [self.objective.num_trained(batch) for batch in batches]
        divisor = sum(self.objective.count(batch) for batch in batches)
        mine = [divisor, float(self.stop.requested or stopping), max(trained), sum(trained), *_set_counts(batches)]
        self.mark(step, "counts")
        rows = self.engine.gather(mine)
        divisor, trained_tokens = sum(row[0] for row in rows), int(sum(row[3] for row in rows))
        if divisor == 0:
            raise TrainingError(f"step {step} has no trained token", "look at the labels with `axo inspect`")
        if self.engine.layout.world_size > 1:
            chunks = self.objective.loss_chunks(int(max(row[2] for row in rows)))
            batches = [replace(batch, loss_chunks=chunks) for batch in batches]
        sets = [float(sum(column)) for column in zip(*(row[4:] for row in rows), strict=True)]
        return batches, _Counted(divisor, trained_tokens, any(row[1] for row in rows), sets)

    def _accumulate(self, batches: list[Batch], counted: _Counted, *, step: int) -> tuple[float, dict[str, float]]:
        """The mean loss of the step, and of each data set that has a part in it."""
        self.mark(step, "forward and backward")
        mine = self.engine.accumulate(batches, divisor=counted.divisor)
        self.mark(step, "losses")
        sums = [sum(column) for column in zip(*self.engine.gather(mine), strict=True)]
        loss = sum(sums) / counted.divisor
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step} is {loss}; the weights are unchanged",
                "lower learning_rate or look at the data of this step; the last checkpoint holds the state before",
            )
        named = zip(self.set_names, sums, counted.sets, strict=False)
        return loss, {name: total / count for name, total, count in named if count} if len(sums) > 1 else {}


@dataclass(frozen=True)
class _Counted:
    """What a step's micro-batches hold on all ranks together."""

    divisor: float
    trained_tokens: int
    stopping: bool
    sets: list[float]
    """Divisor of each data set, where there are several."""


def _set_counts(batches: Sequence[Batch]) -> list[float]:
    """The sum of the weights of each data set's trained tokens; nothing where all are of one."""
    total: torch.Tensor | None = None
    for batch in batches:
        if batch.sets is not None:
            trained = batch.targets != IGNORE_INDEX
            weights = None if batch.weights is None else batch.weights[trained].double()
            counts = torch.bincount(batch.sets[trained], weights=weights, minlength=batch.num_sets).double()
            total = counts if total is None else total + counts
    return [] if total is None else total.tolist()


def peak_memory_bytes(device: torch.device) -> int:
    """Highest memory of this process so far: allocated on its GPU, or resident (ru_maxrss) on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
