"""Where a run writes, how long it trains and what it does about the unexpected."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from axo.recipe.section import Section


class RunSection(Section):
    output_dir: str = "./model-out"
    """Folder that receives checkpoints, the final adapter or model, metrics.jsonl, the recipe and the Plan."""
    num_epochs: PositiveFloat = 1.0
    """Passes over the training data; a fraction ends inside a pass, rounded up to a whole step."""
    max_steps: PositiveInt | None = None
    """Optimizer steps to train; takes precedence over num_epochs when both are set."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Seed of shuffling, splitting, initialisation and dropout; recorded with the run."""
    fallbacks: Literal["allow", "refuse"] = "allow"
    """`refuse` turns every fallback that the Plan would choose into an error."""
