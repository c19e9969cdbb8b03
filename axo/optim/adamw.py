"""AdamW of torch (Loshchilov and Hutter 2019, arXiv 1711.05101), in its plain and its fused form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

_NONE: Mapping[str, Any] = {}


def adamw_torch(
    groups: Sequence[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any] = _NONE,
    module: nn.Module | None = None,
) -> torch.optim.AdamW:
    """Operation after operation."""
    del module
    return torch.optim.AdamW(list(groups), lr=lr, betas=betas, eps=eps, **settings)


def adamw_torch_fused(
    groups: Sequence[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any] = _NONE,
    module: nn.Module | None = None,
) -> torch.optim.AdamW:
    """One kernel for all parameters of a group, on CPU and GPU."""
    del module
    return torch.optim.AdamW(list(groups), lr=lr, betas=betas, eps=eps, fused=True, **settings)
