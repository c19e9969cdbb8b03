"""Token-weighted evaluation: independent of micro-batch, packing and number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from axo.engines.base import Engine
from axo.errors import TrainingError
from axo.types import Batch


@dataclass(frozen=True)
class Evaluation:
    loss: float
    """Mean over trained tokens, in nats."""
    perplexity: float
    """exp(loss)."""
    token_accuracy: float
    """Share of trained tokens whose target is the most probable token."""
    trained_tokens: int


def evaluate(engine: Engine, batches: Iterable[Batch]) -> Evaluation:
    """Score the batches of all ranks. Raises TrainingError where there is no trained token."""
    sums = engine.evaluate(batches)
    if sums.count == 0:
        raise TrainingError("the evaluation data has no trained token", "look at it with `axo preprocess`")
    loss = sums.loss / sums.count
    return Evaluation(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),  # exp(709) is the largest float
        token_accuracy=sums.correct / sums.count,
        trained_tokens=int(sums.count),
    )
