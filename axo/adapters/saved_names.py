"""What peft calls the weights of an adapter in its file."""

from __future__ import annotations

from typing import Any

import torch
from peft import get_peft_model_state_dict


def saved_tensors(model: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of a peft model's `tensors`, by name in the model, that belong to its adapter, by name in the file."""
    return get_peft_model_state_dict(model, state_dict=tensors, save_embedding_layers=False)
