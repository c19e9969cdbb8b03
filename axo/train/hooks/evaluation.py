"""Scores the evaluation data when its cadence says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from axo.plan.plan import Cadence
from axo.plan.steps import is_due
from axo.train.events import StepEnd

if TYPE_CHECKING:
    from axo.train.evaluate import Evaluation


class EvaluationHook:
    def __init__(self, evaluate: Callable[[], Evaluation], *, when: Cadence) -> None:
        self._evaluate = evaluate
        self._when = when

    def after_step(self, end: StepEnd) -> None:
        if is_due(self._when, step=end.metrics.step, epoch_end=end.epoch_end, last=end.last):
            result = self._evaluate()
            end.evaluation.update(
                eval_loss=result.loss, eval_perplexity=result.perplexity, eval_token_accuracy=result.token_accuracy
            )
            end.evaluation.update({f"eval_loss_{name}": loss for name, loss in result.set_losses.items()})

    def close(self) -> None:
        return
