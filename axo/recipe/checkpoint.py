"""When the state of a run is saved and how it goes on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import Differs, NoEffect, NotYet, Section, Supported


class DynamicCheckpoint(Section):
    enabled: bool = False
    """Save a checkpoint whenever a file of a certain name appears in output_dir; the file is then removed."""
    check_interval: PositiveInt = 10
    """Steps from one look for that file to the next."""
    trigger_file_path: str = ""
    """Name of that file, without a folder; empty: axolotl_checkpoint.save."""


class CheckpointSection(Section):
    save_strategy: Annotated[Literal["steps", "epoch", "no", "best"] | None, Supported("steps", "epoch", "no")] = None
    """When checkpoints are saved; unset: by save_steps or saves_per_epoch, else at each epoch."""
    save_steps: float | None = Field(default=None, gt=0)
    """Steps between checkpoints; below 1: share of all steps."""
    saves_per_epoch: PositiveInt | None = None
    """Checkpoints in an epoch."""
    save_first_step: Annotated[bool | None, NotYet()] = None
    """Save a checkpoint after the first step too, so that a fault in saving shows early."""
    dynamic_checkpoint: Annotated[DynamicCheckpoint | None, NotYet(off=({}, {"enabled": False}))] = None
    """Save a checkpoint on demand while the run goes on."""
    save_total_limit: PositiveInt = 4
    """Checkpoints that are kept; older ones are removed."""
    save_only_model: Annotated[bool | None, NotYet()] = False
    """Save weights without the optimizer's state: smaller, but no run can go on from such a checkpoint."""
    save_safetensors: Annotated[bool | None, NoEffect("weights are always saved as safetensors", only=(True,))] = True
    """Save weights as safetensors; Axolotl refuses `false`."""
    resume_from_checkpoint: str | None = None
    """Checkpoint folder to go on from."""
    auto_resume_from_checkpoints: Annotated[bool | None, Differs("unset, the run begins again")] = None
    """Go on from the newest whole checkpoint in output_dir; unset: yes; `false`: refuse a folder with an unfinished
    run."""
