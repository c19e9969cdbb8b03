"""What a forward gets, and that transformers' flash attention then cuts rows into samples."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import modeling_flash_attention_utils as flash

from axo.objectives.inputs import attention_kwargs
from axo.types import Batch

BOUNDS = [0, 3, 8, 10, 16]


def make_batch() -> Batch:
    positions = torch.cat([torch.arange(b - a) for a, b in pairwise(BOUNDS)]).view(2, 8)
    ids = torch.arange(16).view(2, 8)
    return Batch(ids, ids, positions, torch.tensor(BOUNDS, dtype=torch.int32))


@pytest.mark.parametrize("name", ["eager", "sdpa", "sdpa_varlen", "flash_attention_2"])
def test_there_is_neither_a_mask_nor_a_cache(name: str) -> None:
    batch = make_batch()
    kwargs = attention_kwargs(batch, attn_implementation=name)
    assert kwargs["input_ids"] is batch.input_ids
    assert kwargs["position_ids"] is batch.position_ids
    assert (kwargs["attention_mask"], kwargs["use_cache"]) == (None, False)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_bounds_go_only_to_those_that_read_them(name: str) -> None:
    assert not [key for key in attention_kwargs(make_batch(), attn_implementation=name) if "seq_lens" in key]


def test_flash_attention_gets_every_sample_of_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own dispatch, with a loop over samples in the place of the kernel."""

    def kernel(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, cu_seqlens_q: Any, cu_seqlens_k: Any, **other: Any
    ) -> torch.Tensor:
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert other["max_seqlen_q"] == other["max_seqlen_k"] == 6
        return torch.cat([attend(q[a:b], k[a:b], v[a:b]) for a, b in pairwise(cu_seqlens_q.tolist())])

    supports = dict.fromkeys(
        ("dropout_p", "window_size", "deterministic", "softcap", "s_aux", "learnable_sink", "block_table"), False
    ) | {"max_seqlen_q": True, "max_seqlen_k": True, "cache_seqlens": False, "page_table": False}
    process = partial(flash._process_flash_attention_kwargs, supports_mapping=supports)
    functions = (None, kernel, None, None, None), (process, process)
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *_, **__: functions)
    q, k, v = torch.randn(3, 2, 8, 2, 4).unbind()
    kwargs = attention_kwargs(make_batch(), attn_implementation="flash_attention_2")
    bounds = {key: kwargs[key] for key in ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")}
    out = flash._flash_attention_forward(q, k, v, None, query_length=8, is_causal=True, **bounds)
    assert out.shape == (2, 8, 2, 4)
    flat = [x.flatten(0, 1) for x in (q, k, v)]
    for a, b in pairwise(BOUNDS):
        torch.testing.assert_close(out.flatten(0, 1)[a:b], attend(*(x[a:b] for x in flat)))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention of one sample, (L, H, D)."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (scores.masked_fill(future, -torch.inf).softmax(-1) @ v).transpose(0, 1)
