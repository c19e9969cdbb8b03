"""Where a run writes, how long it trains and what it does about the unexpected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from axo.recipe.section import Differs, NoEffect, NotYet, Ours, Section


class RunSection(Section):
    output_dir: str = "./model-out"
    """Folder that receives checkpoints, the final adapter or model, metrics.jsonl, the recipe and the Plan."""
    num_epochs: PositiveFloat = 1.0
    """Passes over the training data; a fraction ends inside a pass, rounded up to a whole step."""
    max_steps: PositiveInt | None = None
    """Optimizer steps to train; takes precedence over num_epochs when both are set."""
    seed: Annotated[
        int, Field(ge=0, lt=2**32), Differs("unset, so that every run shuffles the rows in another order")
    ] = 42
    """Seed of shuffling, splitting, initialisation and dropout; recorded with the run."""
    fallbacks: Annotated[Literal["allow", "refuse"], Ours()] = "allow"
    """`refuse` turns every fallback that the Plan would choose into an error."""
    hub_model_id: Annotated[str | None, NotYet()] = None
    """."""
    hub_strategy: Annotated[str | None, NotYet()] = None
    """."""
    hub_revision: Annotated[str | None, NotYet()] = None
    """."""
    merge_lora: Annotated[bool | None, NoEffect("it is set by the command")] = None
    """."""
    strict: Annotated[bool | None, NoEffect("unknown keys are always refused")] = False
    """."""
    loss_watchdog_threshold: Annotated[float | None, NotYet()] = None
    """."""
    loss_watchdog_patience: Annotated[int | None, NotYet()] = None
    """."""
    is_preprocess: Annotated[bool | None, NoEffect("it is set by the command")] = None
    """."""
    preprocess_iterable: Annotated[bool | None, NoEffect("it is set by the command")] = None
    """."""
    axolotl_config_path: Annotated[str | None, NoEffect("it is set by the command")] = None
    """."""
    debug: Annotated[bool | None, NoEffect("it is set by the command")] = None
    """."""
