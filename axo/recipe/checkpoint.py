"""When the state of a run is saved and how it goes on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section, Supported


class DynamicCheckpoint(Section):
    enabled: bool = False
    """."""
    check_interval: int = 10
    """."""
    trigger_file_path: str = ""
    """."""


class CheckpointSection(Section):
    save_strategy: Annotated[Literal["steps", "epoch", "no", "best"] | None, Supported("steps", "epoch", "no")] = None
    """When checkpoints are saved; unset: by save_steps or saves_per_epoch, else at each epoch."""
    save_steps: float | None = Field(default=None, gt=0)
    """Steps between checkpoints; below 1: share of all steps."""
    saves_per_epoch: PositiveInt | None = None
    """Checkpoints in an epoch."""
    save_total_limit: PositiveInt = 4
    """Checkpoints that are kept; older ones are removed."""
    resume_from_checkpoint: str | None = None
    """Checkpoint folder to go on from."""
    auto_resume_from_checkpoints: bool | None = None
    """Go on from the newest whole checkpoint in output_dir; unset: yes; `false`: refuse a folder with an unfinished
    run."""
    save_safetensors: Annotated[bool | None, NoEffect("weights are always saved as safetensors", only=(True,))] = True
    """."""
    dynamic_checkpoint: Annotated[DynamicCheckpoint | None, NotYet()] = None
    """."""
    save_first_step: Annotated[bool | None, NotYet()] = None
    """."""
    save_only_model: Annotated[bool | None, NotYet()] = False
    """."""
