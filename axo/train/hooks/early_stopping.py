"""Compares evaluations: remembers the best one, and ends a run in which none has been better for some time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from axo.errors import TrainingError
from axo.log import LOG
from axo.plan.plan import Cadence
from axo.plan.steps import is_due
from axo.train.events import Best, StepEnd


@dataclass(frozen=True)
class EarlyStopping:
    """Stands behind the evaluation and before the saving of a step. What it counts is in the run's progress."""

    metric: str
    greater_is_better: bool
    patience: int | None
    """Evaluations in a row without a better value that end the run; None: none do."""
    saves: Cadence | None = None
    """Of the checkpoints of which the best is kept, beside the last step, which is the result; None: none is."""

    def after_step(self, end: StepEnd) -> None:
        if not end.evaluation:
            return
        progress, here = end.progress, Best(self.metric, self._value(end), end.metrics.step)
        if self._is_better(here, progress.best):
            progress.best, progress.worse_evaluations = here, 0
        else:
            progress.worse_evaluations += 1
        due = is_due(self.saves, step=end.metrics.step, epoch_end=end.epoch_end, last=end.last)
        if (due or (self.saves is not None and end.last)) and self._is_better(here, progress.saved_best):
            progress.saved_best = here
        if self.patience is not None and progress.worse_evaluations >= self.patience:
            self._finish(end)

    def close(self) -> None:
        return

    def _value(self, end: StepEnd) -> float:
        if self.metric not in end.evaluation:
            raise TrainingError(
                f"the evaluation gives no {self.metric}, by which metric_for_best_model compares",
                f"it gives {', '.join(end.evaluation)}",
            )
        return end.evaluation[self.metric]

    def _is_better(self, here: Best, known: Best | None) -> bool:
        """Another measure than before begins anew, and anything is better than what is no number."""
        if known is None or known.metric != here.metric or math.isnan(known.value):
            return True
        return here.value > known.value if self.greater_is_better else here.value < known.value

    def _finish(self, end: StepEnd) -> None:
        best, count = end.progress.best, end.progress.worse_evaluations
        assert best is not None
        end.ending.finished = True
        if not end.last:
            since = "the last evaluation was" if count == 1 else f"the last {count} evaluations were"
            LOG.info("step %d: stopping early; %s no better than %s %.6g of step %d",
                     end.metrics.step, since, best.metric, best.value, best.step)  # fmt: skip
