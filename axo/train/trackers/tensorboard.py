"""TensorBoard events in output_dir/runs."""

from __future__ import annotations

from pathlib import Path

from axo.recipe.tracking import TrackingSection


class TensorBoard:
    name = "tensorboard"

    def __init__(self, section: TrackingSection, *, output_dir: Path, recipe: dict[str, object], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        del section
        self._writer = SummaryWriter(str(output_dir / "runs"), purge_step=step + 1)
        self._writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in recipe.items()))

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
