"""What a model's forward gets so that the samples of a batch stay apart, for each attention implementation."""

from __future__ import annotations

from typing import Any

import torch

from axo.types import Batch


def attention_kwargs(batch: Batch, *, attn_implementation: str) -> dict[str, Any]:
    """Keyword arguments of a transformers causal LM: input_ids and position_ids (B, T), and the bounds of the samples
    where the implementation reads them.

    transformers 5.23 isolates samples in `sdpa` and `eager` by restarting position ids, and only where there is
    neither an attention mask nor a cache (masking_utils._preprocess_mask_arguments). flash_attention_2 looks at
    position ids of a single row only, so it always gets bounds (modeling_flash_attention_utils).
    """
    kwargs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": None,
        "use_cache": False,
    }
    if attn_implementation == "sdpa_varlen":
        kwargs["cu_seq_lens_q"] = batch.cu_seqlens
    elif attn_implementation.startswith("flash_attention"):
        bounds = batch.cu_seqlens.to(batch.input_ids.device, torch.int32, non_blocking=True)
        longest = int(batch.cu_seqlens.diff().max())
        kwargs |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
    return kwargs
