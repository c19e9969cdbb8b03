"""Sends metrics to a tracker; a tracker that fails is switched off and never stops the run."""

from __future__ import annotations

from typing import Protocol

from axo.log import LOG
from axo.train.events import StepEnd


class Tracker(Protocol):
    """Somewhere that shows metrics."""

    name: str

    def log(self, metrics: dict[str, float], *, step: int) -> None: ...

    def close(self) -> None: ...


class TrackingHook:
    def __init__(self, tracker: Tracker, *, logging_steps: int) -> None:
        self._tracker: Tracker | None = tracker
        self._logging_steps = logging_steps

    def after_step(self, end: StepEnd) -> None:
        step = end.metrics.step
        if self._tracker is None or not (step % self._logging_steps == 0 or end.last or end.evaluation):
            return
        metrics = {f"train/{name}": value for name, value in end.metrics.values().items() if name != "step"}
        metrics |= {name.replace("eval_", "eval/"): value for name, value in end.evaluation.items()}
        try:
            self._tracker.log(metrics, step=step)
        except Exception as error:  # a foreign library may raise anything; training must go on
            LOG.warning("%s failed and is switched off: %s", self._tracker.name, error)
            self._tracker = None

    def close(self) -> None:
        if self._tracker is None:
            return
        try:
            self._tracker.close()
        except Exception as error:  # as above
            LOG.warning("%s failed while closing: %s", self._tracker.name, error)
