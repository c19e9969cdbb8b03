"""Weights & Biases."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from axo.recipe.tracking import TrackingSection


class WandB:
    name = "wandb"

    def __init__(self, section: TrackingSection, *, output_dir: Path, recipe: dict[str, object], step: int) -> None:
        wandb: Any = import_module("wandb")
        del step  # `resume` and the run id say where the run goes on

        self._run = wandb.init(
            project=section.wandb_project,
            entity=section.wandb_entity,
            name=section.wandb_name,
            id=section.wandb_run_id,
            mode=section.wandb_mode,
            resume="allow",
            dir=str(output_dir),
            config=recipe,
        )

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()
