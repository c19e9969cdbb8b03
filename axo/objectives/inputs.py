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
    position ids of a single row only, so it always gets bounds (modeling_flash_attention_utils). Bounds and the
    longest sample are found here, once for all layers and from the CPU's copy, so that no layer waits for the device.
    """
    kwargs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": None,
        "use_cache": False,
    }
    if attn_implementation in _ON_THE_HOST:
        kwargs["cu_seq_lens_q"] = batch.cu_seqlens
    if attn_implementation == "sdpa_varlen" and batch.input_ids.device.type == "cuda":
        kwargs |= {"cu_seq_lens_k": _on_device(batch), "max_length_q": batch.longest}
    elif attn_implementation.startswith("flash_attention"):
        bounds, longest = _on_device(batch), batch.longest
        kwargs |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
    return kwargs


_ON_THE_HOST = ("sdpa_varlen", "xformers")
"""Back ends of axo's own that cut samples apart, for which they need numbers and not a tensor on the device."""


def _on_device(batch: Batch) -> torch.Tensor:
    return batch.cu_seqlens.to(batch.input_ids.device, torch.int32, non_blocking=True)
