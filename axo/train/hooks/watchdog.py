"""Ends a run whose loss stays above a threshold."""

from __future__ import annotations

from axo.errors import TrainingError
from axo.train.events import StepEnd


class Watchdog:
    """Counts failed steps in a row in the run's progress, so that a resumed run ends where an unbroken one does."""

    def __init__(self, *, threshold: float, patience: int) -> None:
        self._threshold = threshold
        self._patience = patience

    def after_step(self, end: StepEnd) -> None:
        progress = end.progress
        progress.failed_steps = progress.failed_steps + 1 if end.metrics.loss > self._threshold else 0
        if progress.failed_steps >= self._patience:
            end.ending.fault = TrainingError(
                f"step {end.metrics.step}: the loss is {end.metrics.loss:.4g}, and was above loss_watchdog_threshold "
                f"{self._threshold:g} in {progress.failed_steps} steps in a row",
                f"look at these steps in metrics.jsonl and lower learning_rate. The state is saved in checkpoint-"
                f"{end.metrics.step}: with a higher loss_watchdog_threshold the same command goes on from there",
            )

    def close(self) -> None:
        return
