"""What every way of training a model offers, and the table of what is trained."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from axo.recipe.adapters import AdapterSection


class Adapter(Protocol):
    """Full fine-tuning or adapters: what becomes of a loaded model, and how the result is saved."""

    def __init__(self, section: AdapterSection) -> None: ...

    def apply(self, model: Any, *, dtype: torch.dtype) -> Any:
        """The model to train: trained weights require gradients, an adapter's are in `dtype`."""
        ...

    def load(self, model: Any, folder: Path) -> Any:
        """The model with what was saved in `folder` put on it, frozen, to be used or scored."""
        ...

    def save(self, model: Any, folder: Path, *, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Write what was trained, as transformers or peft load it; `weights` by name, where they are not those that
        the model holds."""
        ...


class Trainable(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    size: int
    """Numbers in it."""


def trainable_parameters(model: torch.nn.Module) -> list[Trainable]:
    """Every parameter that is trained, once (tied ones under their first name), at its whole size where this rank holds
    a part of it (ZeRO-3)."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    shapes = [tuple(getattr(parameter, "ds_shape", parameter.shape)) for _, parameter in trained]
    return [
        Trainable(name, shape, parameter.dtype, prod(shape))
        for (name, parameter), shape in zip(trained, shapes, strict=True)
    ]
