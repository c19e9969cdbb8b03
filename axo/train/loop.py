"""The training loop: packs of a step -> counts of all ranks -> accumulate -> update -> hooks."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
import torch

from axo.data.order import Order
from axo.engines.base import Engine
from axo.errors import TrainingError
from axo.train.events import Hook, Progress, StepEnd, StepMetrics
from axo.train.stop import StopFlag
from axo.types import Batch

Packs = list[np.ndarray]


class Counting(Protocol):
    """The parts of an objective that the loop needs."""

    def count(self, batch: Batch) -> float: ...

    def loss_chunks(self, count: float) -> int: ...


@dataclass(frozen=True)
class Loop:
    """What stays the same over all steps of a run."""

    engine: Engine
    objective: Counting
    order: Order
    collate: Callable[[Packs], list[Batch]]
    """The packs of a step -> this rank's micro-batches; equally many on every rank."""
    learning_rate: Callable[[int], float]
    """Learning rate of a step, counted from 0."""
    total_steps: int
    max_grad_norm: float
    stop: StopFlag

    def train(self, progress: Progress, hooks: Sequence[Hook]) -> bool:
        """Train from `progress` to the last step; False where a stop was asked for before."""
        while progress.step < self.total_steps:
            for packs in self.order.steps(progress.epoch, start=progress.step_in_epoch):
                end = self._step(packs, progress)
                for hook in hooks:
                    hook.after_step(end)
                if end.last:
                    return True
                if end.stopping:
                    return False
            progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        return True

    def _step(self, packs: Packs, progress: Progress) -> StepEnd:
        started = perf_counter()
        batches, trained_tokens, stopping = self._count(self.collate(packs), step=progress.step + 1)
        loss = self._accumulate(batches, trained_tokens, step=progress.step + 1)
        lr = self.learning_rate(progress.step)
        update = self.engine.update(lr=lr, max_grad_norm=self.max_grad_norm)
        progress.step += 1
        progress.step_in_epoch += 1
        progress.trained_tokens += int(trained_tokens)
        metrics = StepMetrics(
            step=progress.step,
            epoch=progress.epoch + progress.step_in_epoch / self.order.steps_per_epoch,
            loss=loss,
            lr=lr,
            grad_norm=update.grad_norm,
            trained_tokens=int(trained_tokens),
            tokens_per_second=trained_tokens / (perf_counter() - started),
            peak_memory_bytes=peak_memory_bytes(self.engine.device),
        )
        return StepEnd(
            metrics=metrics,
            progress=progress,
            epoch_end=progress.step_in_epoch == self.order.steps_per_epoch,
            last=progress.step == self.total_steps,
            stopping=stopping,
        )

    def _count(self, batches: list[Batch], *, step: int) -> tuple[list[Batch], float, bool]:
        """One gather: trained tokens of all ranks, whether any rank was asked to stop, and the number of loss
        chunks that the fullest micro-batch of any rank needs (collectives inside the head must match)."""
        counts = [self.objective.count(batch) for batch in batches]
        rows = self.engine.gather([sum(counts), float(self.stop.requested), max(counts)])
        trained_tokens = sum(row[0] for row in rows)
        if trained_tokens == 0:
            raise TrainingError(f"step {step} has no trained token", "look at the labels with `axo preprocess`")
        if self.engine.layout.world_size > 1:
            chunks = self.objective.loss_chunks(max(row[2] for row in rows))
            batches = [replace(batch, loss_chunks=chunks) for batch in batches]
        return batches, trained_tokens, any(row[1] for row in rows)

    def _accumulate(self, batches: list[Batch], divisor: float, *, step: int) -> float:
        mine = self.engine.accumulate(batches, divisor=divisor)
        loss = sum(row[0] for row in self.engine.gather([mine])) / divisor
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step} is {loss}; the weights are unchanged",
                "lower learning_rate or look at the data of this step; the last checkpoint holds the state before",
            )
        return loss


def peak_memory_bytes(device: torch.device) -> int:
    """Highest memory of this process so far: allocated on its GPU, or resident (ru_maxrss) on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
