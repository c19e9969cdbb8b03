"""Token-weighted evaluation: independent of micro-batch, packing and number of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
    set_losses: dict[str, float] = field(default_factory=dict[str, float])
    """Name of each data set that has trained tokens -> its loss; only of several data sets."""


def evaluate(engine: Engine, batches: Iterable[Batch], *, set_names: Sequence[str] = ()) -> Evaluation:
    """Score the batches of all ranks. Raises TrainingError where there is no trained token."""
    sums = engine.evaluate(batches)
    if sums.count == 0:
        raise TrainingError("the evaluation data has no trained token", "look at it with `axo preprocess`")
    loss = sums.loss / sums.count
    return Evaluation(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),  # exp(709) is the largest float
        token_accuracy=sums.correct / sums.count,
        trained_tokens=sums.trained_tokens,
        set_losses={name: one.loss / one.count for name, one in zip(set_names, sums.sets, strict=False) if one.count},
    )
