"""Writes what others load of a run: the adapter or the model, with its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from axo.adapters.base import Adapter
from axo.engines.base import Engine
from axo.objectives.causal_lm import CausalLM
from axo.train.build import save_model

_MODEL = "model."
"""Where the objective keeps the model."""


@dataclass(frozen=True)
class ModelWriter:
    """All ranks call it together; rank 0 writes."""

    engine: Engine
    adapter: Adapter
    objective: CausalLM
    tokenizer: Any
    eot_tokens: tuple[str, ...] = ()
    trained_only: bool = False
    """The adapter's weights are all that is written."""

    def write(self, folder: Path) -> None:
        """The same files whatever the engine."""
        weights = None if self.engine.holds_whole else self._gathered()
        if self.engine.layout.rank == 0:
            save_model(
                self.adapter, self.objective, self.tokenizer, folder, eot_tokens=self.eot_tokens, weights=weights
            )

    def _gathered(self) -> dict[str, torch.Tensor]:
        """Whole weights in CPU memory on rank 0, by their names in the model; nothing on the others."""
        whole: dict[str, torch.Tensor] = {}
        for name, weight in self.engine.full_weights(trained_only=self.trained_only):
            if self.engine.layout.rank == 0:
                whole[name.removeprefix(_MODEL)] = weight.detach().cpu()
        return whole
