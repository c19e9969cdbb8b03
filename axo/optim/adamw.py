"""AdamW of torch (Loshchilov and Hutter 2019, arXiv 1711.05101), in its plain and its fused form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def adamw_torch(
    groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """`groups` are those of parameter_groups: each brings its weight decay."""
    return torch.optim.AdamW(list(groups), lr=lr, betas=betas, eps=eps)


def adamw_torch_fused(
    groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.AdamW:
    """One kernel for all parameters of a group, on CPU and GPU."""
    return torch.optim.AdamW(list(groups), lr=lr, betas=betas, eps=eps, fused=True)
