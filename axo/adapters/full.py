"""Full fine-tuning: the model's own weights are trained, all or those that are named, and the whole model is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from axo.adapters.unfrozen import keeping_rows, unfreeze
from axo.log import quiet_transformers
from axo.recipe.adapters import AdapterSection


class Full:
    """No adapter."""

    def __init__(self, section: AdapterSection) -> None:
        assert section.adapter is None
        self._patterns = section.unfrozen_parameters or []
        self._rows: dict[nn.Parameter, torch.Tensor] = {}

    def apply(self, model: Any, *, dtype: torch.dtype) -> Any:
        """The same model, parameters trained in the number format they were loaded in; `dtype` is an adapter's.

        Raises RecipeError where unfrozen_parameters names none."""
        model.requires_grad_(True)
        if self._patterns:
            self._rows = unfreeze(model, self._patterns)
        return model

    def keeping_rows(
        self, make_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    ) -> Callable[[nn.Module], torch.optim.Optimizer]:
        """An optimizer that moves no row which unfrozen_parameters leaves out."""
        return keeping_rows(make_optimizer, self._rows)

    def load(self, model: Any, folder: Path) -> Any:
        """The same model: what full fine-tuning saves is loaded as a model, not put on one."""
        return model

    def save(self, model: Any, folder: Path, *, weights: dict[str, torch.Tensor] | None = None) -> None:
        """A transformers folder: config, generation config and safetensors in shards."""
        with quiet_transformers():
            model.save_pretrained(folder, state_dict=weights)
