"""When the model is evaluated while it trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import Section


class EvaluationSection(Section):
    eval_strategy: Literal["steps", "epoch", "no"] | None = None
    """When the evaluation data is scored; unset: by eval_steps or evals_per_epoch, else at each epoch."""
    eval_steps: float | None = Field(default=None, gt=0)
    """Steps between evaluations; below 1: share of all steps."""
    evals_per_epoch: PositiveInt | None = None
    """Evaluations in an epoch."""
