"""Attention of packed batches by xFormers' memory-efficient attention: one call for all samples, CUDA only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from axo.errors import HardwareError, TrainingError
from axo.model.attention import sdpa_varlen
from axo.model.attention.samples import Samples, from_bounds, from_positions
from axo.model.attention.varlen import computed_dtype

UPSTREAM_NAME = "xformers"


def register(name: str) -> str:
    """Make this backend known to transformers; raises HardwareError where the package is missing or broken."""
    try:
        import xformers.ops  # noqa: F401  # pyright: ignore[reportMissingImports]
    except Exception as error:  # a build for another torch may fail in any way
        hint = "install xformers for this torch, or set attn_implementation: sdpa_varlen"
        raise HardwareError(f"xformers cannot be imported: {error}", hint) from error
    assert name == UPSTREAM_NAME
    AttentionInterface.register(UPSTREAM_NAME, attention)
    AttentionMaskInterface.register(UPSTREAM_NAME, sdpa_varlen.mask_where_needed)
    return UPSTREAM_NAME


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, T, D), key and value (B, H_kv, T, D) -> (B, T, H, D), as transformers' AttentionInterface asks.

    Whatever is not causal attention of whole samples (masks, caches, soft caps, sinks) is left to sdpa_varlen.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    rows, _, row_length, _ = query.shape
    special = any(others.get(name) is not None for name in ("softcap", "s_aux"))
    if attention_mask is not None or key.shape[2] != row_length or not causal or special:
        return sdpa_varlen.attention(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, is_causal=is_causal,
            sliding_window=sliding_window, cu_seq_lens_q=cu_seq_lens_q, position_ids=position_ids, **others,
        )  # fmt: skip
    if cu_seq_lens_q is None:
        samples = from_positions(position_ids, rows=rows, row_length=row_length)
    else:
        samples = from_bounds(cu_seq_lens_q)
    assert samples.num_tokens == rows * row_length, "cu_seq_lens_q must bound all tokens of the batch"
    return _attend(query, key, value, samples, scaling=scaling, dropout=dropout, window=sliding_window), None


# The layers of a forward and of its recomputation ask for one or two masks.
@lru_cache(maxsize=8)
def block_mask(lengths: tuple[int, ...], window: int | None, device: torch.device) -> Any:
    """xFormers' bias of samples side by side, each causal; with a window each token sees itself and the window - 1
    before it."""
    from xformers.ops.fmha.attn_bias import (  # pyright: ignore[reportMissingImports]
        BlockDiagonalCausalMask,
    )

    mask: Any = BlockDiagonalCausalMask.from_seqlens(lengths, device=device)
    return mask if window is None or window >= max(lengths) else mask.make_local_attention(window)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    samples: Samples,
    *,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    from xformers.ops import memory_efficient_attention  # pyright: ignore[reportMissingImports]

    rows, num_heads, row_length, _ = query.shape
    repeats, dtype = num_heads // key.shape[1], computed_dtype(query)
    if repeats > 1:  # xFormers has no backward pass for heads that share keys
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    flat = (x.transpose(1, 2).flatten(0, 1)[None].to(dtype) for x in (query, key, value))
    mask = block_mask(samples.lengths, window, query.device)
    try:
        output: torch.Tensor = memory_efficient_attention(*flat, attn_bias=mask, p=dropout, scale=scaling)
    except NotImplementedError as error:
        reason = str(error).strip().split("\n")[0]
        message = f"xformers has no operator for this model's attention here: {reason}"
        raise TrainingError(
            message, "set attn_implementation: sdpa_varlen, or install xformers for this torch"
        ) from error
    return output.view(rows, row_length, num_heads, value.shape[-1])
