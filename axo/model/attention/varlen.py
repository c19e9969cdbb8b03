"""Attention of all samples of a batch in one call of torch's own kernel for rows of unlike lengths: CUDA, 16 bits.

Scores stay in the kernel, so the result differs from transformers' eager attention by roundings of the 16-bit format
only. The kernel's blocks never span two samples.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.attention.varlen import varlen_attn

AMPERE = (8, 0)
MAX_HEAD_DIM = 256


def computed_dtype(query: torch.Tensor) -> torch.dtype:
    """The number format that products are computed in: autocast's, where it is on. Rotated queries and keys are wider
    than that: a kernel that autocast does not know gets them narrowed."""
    device_type = query.device.type
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else query.dtype


def can_attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel takes such heads, query (B, H, T, D), key and value (B, H_kv, T, D), on such a device."""
    head_dim = query.shape[-1]
    return (
        query.device.type == "cuda"
        and computed_dtype(query) in (torch.float16, torch.bfloat16)
        and head_dim == value.shape[-1] <= MAX_HEAD_DIM
        and head_dim % 8 == 0
        and query.shape[1] % key.shape[1] == 0
        and _capability(query.device.index) >= AMPERE
    )


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """query (B, H, T, D), key and value (B, H_kv, T, D) -> (B, T, H, D), with `bounds` (S + 1,) int32 on their device
    and `longest` the tokens of the longest sample. `window` counts the token itself."""
    rows, num_heads, row_length, head_dim = query.shape
    dtype = computed_dtype(query)
    flat = [x.transpose(1, 2).reshape(rows * row_length, -1, head_dim).to(dtype) for x in (query, key, value)]
    output = varlen_attn(
        *flat,
        cu_seq_q=bounds,
        cu_seq_k=bounds,
        max_q=longest,
        max_k=longest,
        scale=scaling,
        window_size=window_size(causal=causal, window=window, longest=longest),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, torch.Tensor)
    return output.view(rows, row_length, num_heads, head_dim)


def window_size(*, causal: bool, window: int | None, longest: int) -> tuple[int, int]:
    """Tokens that varlen_attn lets a token see to its left and right, without itself; -1: all."""
    if not causal:
        return (-1, -1)
    return (-1, 0) if window is None or window >= longest else (window - 1, 0)


@lru_cache(maxsize=16)
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)
