"""Kernels that only a GPU has: what they are given, with a plain loop in their place; and xFormers' masks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from axo.model.attention import sdpa_varlen, varlen
from axo.model.attention.varlen import window_size

BOUNDS = [0, 7, 8, 20, 27, 30]
LONGEST = 12


def loop(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **given: Any) -> torch.Tensor:
    """What torch documents of varlen_attn: (N, H, D), and of its window that (W, 0) shows W tokens to the left."""
    (left, right), bounds = given["window_size"], given["cu_seq_q"].tolist()
    assert given["cu_seq_q"].dtype == torch.int32 and given["cu_seq_k"] is given["cu_seq_q"]
    assert given["max_q"] == given["max_k"] == max(b - a for a, b in pairwise(bounds))
    assert given["enable_gqa"] == (query.shape[1] != key.shape[1])
    outputs = []
    for a, b in pairwise(bounds):
        q, k, v = (x[a:b].transpose(0, 1) for x in (query, key, value))
        k, v = (x.repeat_interleave(q.shape[0] // x.shape[0], dim=0) for x in (k, v))
        scores = q @ k.transpose(1, 2) * (q.shape[-1] ** -0.5 if given["scale"] is None else given["scale"])
        behind = torch.arange(b - a)[:, None] - torch.arange(b - a)
        seen = (left < 0) | (behind <= left)
        seen = seen & ((right < 0) | (behind >= -right))
        outputs.append((scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("window", [None, 5, 1, 12, 40])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_varlen_kernel_is_asked_for_what_the_calls_for_each_sample_compute(
    monkeypatch: pytest.MonkeyPatch, rows: int, window: int | None, scaling: float | None
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", loop)
    bounds = BOUNDS if rows == 1 else [*BOUNDS, *(30 + end for end in BOUNDS[1:])]
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
    query, key, value = torch.randn(rows, 4, 30, 8), torch.randn(rows, 2, 30, 8), torch.randn(rows, 2, 30, 8)
    given: dict[str, Any] = {"scaling": scaling, "sliding_window": window, "cu_seq_lens_q": cu_seqlens}
    expected, _ = sdpa_varlen.attention(torch.nn.Module(), query, key, value, None, **given)
    monkeypatch.setattr(varlen, "can_attend", lambda *_: True)
    kernel: dict[str, Any] = {"cu_seq_lens_k": cu_seqlens, "max_length_q": LONGEST}
    output, _ = sdpa_varlen.attention(torch.nn.Module(), query, key, value, None, **given, **kernel)
    assert output.shape == (rows, 30, 4, 8)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("special", [{"softcap": 2.0}, {"s_aux": torch.zeros(4)}, {"dropout": 0.1}])
def test_what_the_kernel_cannot_compute_does_not_reach_it(
    monkeypatch: pytest.MonkeyPatch, special: dict[str, Any]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the kernel was called")

    monkeypatch.setattr(varlen, "can_attend", lambda *_: True)
    monkeypatch.setattr(varlen, "attend", refuse)
    bounds = torch.tensor(BOUNDS, dtype=torch.int32)
    query, key = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8)
    kernel: dict[str, Any] = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": LONGEST}
    sdpa_varlen.attention(torch.nn.Module(), query, key, key, None, **kernel, **special)


def test_a_cpu_has_no_varlen_kernel() -> None:
    x = torch.randn(1, 2, 8, 16, dtype=torch.bfloat16)
    assert not varlen.can_attend(x, x, x)


@pytest.mark.parametrize(
    ("causal", "window", "expected"),
    [(True, None, (-1, 0)), (True, 4, (3, 0)), (True, 1, (0, 0)), (True, 12, (-1, 0)), (False, None, (-1, -1))],
)
def test_a_window_counts_the_token_itself_and_torchs_does_not(
    causal: bool, window: int | None, expected: tuple[int, int]
) -> None:
    assert window_size(causal=causal, window=window, longest=12) == expected


def test_products_are_in_autocasts_number_format_where_it_is_on() -> None:
    x = torch.zeros(1)
    assert varlen.computed_dtype(x) == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert varlen.computed_dtype(x) == torch.bfloat16


@pytest.mark.parametrize("window", [None, 1, 3, 12, 99])
def test_the_mask_of_xformers_shows_what_sdpa_varlen_lets_a_token_see(window: int | None) -> None:
    pytest.importorskip("xformers.ops.fmha.attn_bias", exc_type=ImportError)
    from axo.model.attention.xformers import block_mask

    lengths = tuple(b - a for a, b in pairwise(BOUNDS))
    mask = block_mask(lengths, window, torch.device("cpu")).materialize((30, 30))
    # With one-hot values, what comes out of attention is what a token sees.
    zeros, values = torch.zeros(1, 1, 30, 8), torch.eye(30)[None, None]
    bounds = torch.tensor(BOUNDS, dtype=torch.int32)
    seen, _ = sdpa_varlen.attention(
        torch.nn.Module(), zeros, zeros, values, None, cu_seq_lens_q=bounds, sliding_window=window
    )
    assert torch.equal(mask == 0, seen[0, :, 0] > 0)


def test_the_call_of_xformers_computes_what_sdpa_varlen_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's attention and the mask written out in the place of the CUDA operator."""
    ops = pytest.importorskip("xformers.ops", exc_type=ImportError)
    from axo.model.attention import xformers

    def operator(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **given: Any) -> torch.Tensor:
        assert query.shape == key.shape == (1, 60, 4, 8), "xFormers has no backward pass for shared heads"
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        mask = given["attn_bias"].materialize((60, 60))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=given["scale"]).transpose(1, 2)

    monkeypatch.setattr(ops, "memory_efficient_attention", operator)
    query, key, value = torch.randn(2, 4, 30, 8), torch.randn(2, 2, 30, 8), torch.randn(2, 2, 30, 8)
    bounds = torch.tensor([*BOUNDS, *(30 + end for end in BOUNDS[1:])], dtype=torch.int32)
    given: dict[str, Any] = {"cu_seq_lens_q": bounds, "sliding_window": 5, "scaling": 0.4}
    expected, _ = sdpa_varlen.attention(torch.nn.Module(), query, key, value, None, **given)
    output, _ = xformers.attention(torch.nn.Module(), query, key, value, None, **given)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    # Soft caps and masks are none of xFormers': the same as without it.
    expected, _ = sdpa_varlen.attention(torch.nn.Module(), query, key, value, None, softcap=2.0, **given)
    output, _ = xformers.attention(torch.nn.Module(), query, key, value, None, softcap=2.0, **given)
    assert torch.equal(output, expected)
