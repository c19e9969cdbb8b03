"""Full fine-tuning: every weight is trained and the whole model is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from axo.log import quiet_transformers
from axo.recipe.adapters import AdapterSection


class Full:
    """No adapter."""

    def __init__(self, section: AdapterSection) -> None:
        assert section.adapter is None

    def apply(self, model: Any, *, dtype: torch.dtype) -> Any:
        """The same model, all parameters trained in the number format they were loaded in; `dtype` is an adapter's."""
        return model.requires_grad_(True)

    def load(self, model: Any, folder: Path) -> Any:
        """The same model: what full fine-tuning saves is loaded as a model, not put on one."""
        return model

    def save(self, model: Any, folder: Path) -> None:
        """A transformers folder: config, generation config and safetensors in shards."""
        with quiet_transformers():
            model.save_pretrained(folder)
