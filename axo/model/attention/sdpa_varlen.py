"""Attention of packed batches without a T x T mask: one call of torch's SDPA for all samples of one length, and on
CUDA in 16 bits one call of torch's varlen kernel for all samples.

It computes exactly what transformers' eager attention computes for each sample alone; in float32 the two differ by
rounding only (below 1e-5 of a logit for the models that are tested). Samples never meet in a tensor operation, so a
sample's result is bit-identical whatever stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function, sdpa_mask

from axo.errors import TrainingError
from axo.model.attention import varlen
from axo.model.attention.samples import Samples, from_bounds, from_positions

UPSTREAM_NAME = "per_sample"
"""transformers takes every name with "sdpa" in it for its own SDPA backend and refuses it for models with soft-capped
attention (PreTrainedModel.get_correct_attn_implementation); those are computed here."""

_UNSUPPORTED = {
    "position_bias": "a position bias",
    "cache": "a paged cache",
}


def register(name: str) -> str:
    """Make this backend known to transformers; returns the name under which it is known there."""
    assert name == "sdpa_varlen"
    AttentionInterface.register(UPSTREAM_NAME, attention)
    AttentionMaskInterface.register(UPSTREAM_NAME, mask_where_needed)
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
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    position_ids: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, T, D), key and value (B, H_kv, T_kv, D) -> (B, T, H, D_v), as transformers' AttentionInterface asks.

    `cu_seq_lens_q` (S + 1,) on the CPU bounds the samples in the B * T tokens; without it the position ids do.
    `cu_seq_lens_k` is the same on the device, and `max_length_q` the tokens of the longest sample: with them a kernel
    can take all samples at once. With a cache (T_kv > T) or a mask, all rows are computed at once. `s_aux` (H,) are
    attention sinks. Raises TrainingError for what it cannot compute.
    """
    _check_supported(others)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    call = _Call(scaling, dropout, softcap, causal, window=sliding_window if causal else None, sinks=s_aux)
    rows, _, row_length, _ = query.shape
    if attention_mask is not None:
        return call(query, key, value, mask=attention_mask).transpose(1, 2).contiguous(), None
    if key.shape[2] != row_length:
        # Whatever needs a mask here has one (mask_where_needed): this is one new token after a cache.
        assert row_length == 1
        return replace(call, causal=False)(query, key, value).transpose(1, 2).contiguous(), None
    if cu_seq_lens_q is None:
        samples = from_positions(position_ids, rows=rows, row_length=row_length)
    else:
        samples = from_bounds(cu_seq_lens_q)
    assert samples.num_tokens == rows * row_length, "cu_seq_lens_q must bound all tokens of the batch"
    if (
        cu_seq_lens_k is not None
        and max_length_q is not None
        and call.is_plain
        and varlen.can_attend(query, key, value)
    ):
        window, bounds = call.window, {"bounds": cu_seq_lens_k, "longest": max_length_q}
        return varlen.attend(query, key, value, **bounds, scaling=scaling, causal=causal, window=window), None
    if samples.fill_rows(rows):
        return call(query, key, value).transpose(1, 2).contiguous(), None
    return _each_sample(call, query, key, value, samples), None


def mask_where_needed(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int | torch.Tensor = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    config: Any = None,
    **others: Any,
) -> torch.Tensor | None:
    """No mask for whole samples; transformers' own boolean mask (B, 1, T, T_kv) for padded rows, for several tokens
    after a cache and for patterns that are neither causal nor a sliding window."""
    whole = q_length == kv_length
    unpadded = attention_mask is None or bool(attention_mask.all())
    known = not use_vmap and local_size in (None, getattr(config, "sliding_window", None))
    if whole and unpadded and known:
        return None
    return sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,  # pyright: ignore[reportArgumentType]  # a tensor with a static cache
        kv_offset=kv_offset,  # pyright: ignore[reportArgumentType]
        mask_function=mask_function,
        attention_mask=attention_mask,
        local_size=local_size,
        allow_is_causal_skip=allow_is_causal_skip and q_length == 1,
        use_vmap=use_vmap,
        **others,
    )


def _check_supported(others: dict[str, Any]) -> None:
    for name, what in _UNSUPPORTED.items():
        if others.get(name) is not None:
            raise TrainingError(
                f"sdpa_varlen cannot compute {what}, which this model's attention has",
                "set attn_implementation: eager",
            )


def _each_sample(
    call: _Call, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, samples: Samples
) -> torch.Tensor:
    rows, num_heads, row_length, _ = query.shape
    # One split: its backward is one concatenation, where a slice for each sample would add up gradients of all tokens.
    parts = [x.transpose(1, 2).flatten(0, 1).split(samples.lengths) for x in (query, key, value)]
    outputs: list[torch.Tensor] = [query] * len(samples.lengths)
    for group in samples.groups:
        if len(group) == 1:
            stacked = (part[group[0]].unsqueeze(0) for part in parts)
        else:
            stacked = (torch.stack([part[position] for position in group]) for part in parts)
        computed = call(*(x.transpose(1, 2) for x in stacked)).transpose(1, 2).unbind()
        for position, output in zip(group, computed, strict=True):
            outputs[position] = output
    return torch.cat(outputs).view(rows, row_length, num_heads, value.shape[-1])


@dataclass(frozen=True)
class _Call:
    """Attention of n samples of one length, with all that stays the same within a layer."""

    scaling: float | None
    dropout: float
    softcap: float | None
    causal: bool
    window: int | None
    sinks: torch.Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a fused kernel computes it: nothing is done to scores or weights."""
        return self.softcap is None and self.sinks is None and not self.dropout

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """query (n, H, L, D), key and value (n, H_kv, L_kv, D) -> (n, H, L, D_v)."""
        length = query.shape[2]
        causal = self.causal and mask is None and length > 1
        explicit = self.softcap is not None or self.sinks is not None
        if causal and (explicit or (self.window is not None and length > self.window)):
            mask, causal = _causal_band(length, self.window, query.device), False
        grouped = query.shape[1] != key.shape[1]
        if grouped and not (not explicit and mask is None and _kernel_groups_heads(query, value)):
            repeats = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
            grouped = False
        if explicit:
            return self._explicit(query, key, value, mask)
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout,
            is_causal=causal,
            scale=self.scaling,
            enable_gqa=grouped,
        )

    def _explicit(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """softmax(scores) @ value, the softmax in float32. With a soft cap (Gemma 2, arXiv 2408.00118, 2) a score s is
        softcap * tanh(s / softcap); with sinks (gpt-oss, arXiv 2508.10925, 2.2) each head has one more score, of no
        token and without a value."""
        scale = query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        scores = query @ key.transpose(2, 3) * scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if mask is not None:
            scores = (
                scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
            )
        if self.sinks is not None:
            sinks = self.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
            scores = torch.cat([scores, sinks], dim=-1)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)[..., : key.shape[2]]
        return F.dropout(weights, self.dropout, training=self.dropout > 0) @ value


def _kernel_groups_heads(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether a fused kernel takes fewer key-value heads than query heads; elsewhere torch falls back to a path that
    holds all scores. On CUDA only the flash kernel does: 16 bits, one head size of at most 256."""
    if query.device.type == "cpu":
        return True
    return varlen.computed_dtype(query) in (torch.float16, torch.bfloat16) and query.shape[-1] == value.shape[-1] <= 256


def _causal_band(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(L, L) bool: True where a token may look: at itself and, with a window, the window - 1 tokens before it."""
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)
