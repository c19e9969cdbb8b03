"""Loss scaling under float16 (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2), by torch's GradScaler."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from axo.errors import CheckpointError, TrainingError

FILE = "scaling.json"
LOWEST_SCALE = 1e-4
"""Below it gradients overflow for another reason than their scale (fairseq's --min-loss-scale)."""


class LossScaling:
    """A factor on the loss that halves when gradients overflow and doubles after 2,000 steps without.

    Overflow is seen in the gradients that all ranks have averaged, so all ranks decide alike."""

    def __init__(self, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)

    @property
    def factor(self) -> float:
        return self._scaler.get_scale()

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the factor, and note whether one is not finite."""
        self._scaler.unscale_(optimizer)

    def update(self) -> bool:
        """Adjust the factor; whether gradients had overflowed."""
        before = self.factor
        self._scaler.update()
        return self.factor < before

    def refuse_if_lost(self) -> None:
        """Raises TrainingError where no factor is small enough."""
        if self.factor < LOWEST_SCALE:
            raise TrainingError(
                f"gradients overflow float16 even with the loss scaled by {self.factor:.3g}; the weights are unchanged",
                "set bf16: true (a wider range), or look at the learning rate; the last checkpoint holds the state",
            )

    def save(self, folder: Path) -> Path:
        """The file that it is written to."""
        (folder / FILE).write_text(json.dumps(self._scaler.state_dict(), indent=1))
        return folder / FILE

    def load(self, folder: Path) -> None:
        """Raises CheckpointError where the checkpoint was made without scaling."""
        if not (folder / FILE).exists():
            raise CheckpointError(
                f"{folder} holds no loss scale: it was not made with fp16", "start in a new output_dir"
            )
        self._scaler.load_state_dict(json.loads((folder / FILE).read_text()))
