"""Rotary positions of a loaded model that would otherwise remember what they were computed for last."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def forget_lengths(model: nn.Module) -> None:
    """Let `dynamic` rotary frequencies follow the rows of each forward alone.

    transformers keeps frequencies that grew with a long row until a row within the original length comes
    (modeling_rope_utils.dynamic_rope_update): what a row gets would depend on the rows before it, and change with an
    evaluation in between or when a run goes on from a checkpoint."""
    for module in model.modules():
        kinds: Any = getattr(module, "rope_type", None)
        if isinstance(kinds, str | dict) and "dynamic" in str(kinds) and hasattr(module, "original_max_seq_len"):
            module.register_forward_pre_hook(_as_built)


def _as_built(module: nn.Module, _: Any) -> None:
    rotary: Any = module
    for name in [name for name, _ in rotary.named_buffers(recurse=False) if name.endswith("original_inv_freq")]:
        prefix = name.removesuffix("original_inv_freq")
        original: torch.Tensor = getattr(rotary, name)
        setattr(rotary, f"{prefix}inv_freq", original.clone())
        setattr(rotary, f"{prefix}max_seq_len_cached", rotary.original_max_seq_len)
    rotary.max_seq_len_cached = rotary.original_max_seq_len
