"""Where a run writes, how long it trains and what it does about the unexpected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from axo.recipe.section import SET_BY_COMMAND, UNREAD, Differs, NoEffect, NotYet, Ours, Section


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

    loss_watchdog_threshold: PositiveFloat | None = None
    """Training loss above which a step counts as failed; unset: none does."""
    loss_watchdog_patience: PositiveInt | None = None
    """Failed steps in a row after which training stops with an error, its state saved; unset: 3."""

    hub_model_id: Annotated[str | None, NotYet()] = None
    """Hub model, `owner/name`, to which checkpoints and the trained model are sent; it is made private."""
    hub_strategy: Annotated[Literal["end", "every_save", "checkpoint", "all_checkpoints"] | None, NotYet()] = None
    """What is sent to the hub: the trained model alone (end); the weights at every save (every_save); besides these the
    last checkpoint, to go on elsewhere (checkpoint); or every checkpoint; unset: every_save."""
    hub_revision: Annotated[str | None, NotYet()] = None
    """Branch of the hub model that receives it; unset: main."""

    strict: Annotated[bool | None, NoEffect("an option of the command line always counts")] = False
    """Let the command line change only keys that stand in the recipe."""
    debug: Annotated[bool | None, NoEffect("it changes what Axolotl prints, not what is learnt")] = None
    """Print some prepared samples with their trained tokens before training."""
    is_preprocess: Annotated[bool | None, SET_BY_COMMAND] = None
    """The command is `preprocess`."""
    preprocess_iterable: Annotated[bool | None, UNREAD] = None
    """Prepare data as a stream."""
    merge_lora: Annotated[bool | None, SET_BY_COMMAND] = None
    """The command is `merge-lora`."""
    axolotl_config_path: Annotated[str | None, SET_BY_COMMAND] = None
    """The recipe's own file."""
