"""What is reported while a run goes on, and to whom."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from axo.recipe.section import Section


class TrackingSection(Section):
    logging_steps: PositiveInt | None = None
    """Steps between lines at the terminal and in trackers (metrics.jsonl has every step); unset: 0.5 % of the
    steps, from 1 to 10."""
    use_tensorboard: bool = False
    """Write TensorBoard events to output_dir/runs."""
    use_wandb: bool | None = None
    """Report to Weights & Biases; unset: where wandb_project is set."""
    wandb_project: str | None = None
    """Project at Weights & Biases."""
    wandb_entity: str | None = None
    """User or team at Weights & Biases."""
    wandb_name: str | None = None
    """Name of the run at Weights & Biases."""
    wandb_run_id: str | None = None
    """Id of the run at Weights & Biases, to go on with it."""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """Whether Weights & Biases sends, stores or does nothing."""
