"""The chunked cross-entropy against F.cross_entropy on the full logits (law L9)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from axo.objectives import linear_ce
from axo.objectives.logits import LogitTransform

D, V = 6, 11


def reference(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, *, scale=1.0, softcap=None):
    logits = head(hidden) * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")


def tensors(rows: int, *, bias: bool = True) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(rows)
    head = nn.Linear(D, V, bias=bias)
    return head, torch.randn(rows, D, requires_grad=True), torch.randint(0, V, (rows,))


def gradients(loss: torch.Tensor, head: nn.Module, hidden: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [hidden, *head.parameters()]))


class CountingHead(nn.Linear):
    """Counts its calls and the rows of each."""

    def __init__(self) -> None:
        super().__init__(D, V)
        self.rows: list[int] = []

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(hidden))
        return super().forward(hidden)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), chunks=st.integers(1, 12), recompute=st.sampled_from([None, True, False]))
def test_any_number_of_chunks_gives_the_loss_and_gradients_of_full_logits(rows, chunks, recompute) -> None:
    head, hidden, targets = tensors(rows)
    expected = reference(head, hidden, targets)
    loss = linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=chunks, recompute=recompute)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-5)
    for got, wanted in zip(gradients(loss, head, hidden), gradients(expected, head, hidden), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize(("scale", "softcap"), [(0.25, None), (1.0, 1.5), (3.0, 0.7)])
def test_scale_and_soft_cap_stand_between_head_and_loss(chunks: int, scale: float, softcap: float | None) -> None:
    head, hidden, targets = tensors(7)
    expected = reference(head, hidden, targets, scale=scale, softcap=softcap)
    loss = linear_ce.linear_cross_entropy_sum(
        head, hidden, targets, chunks=chunks, transform=LogitTransform(scale=scale, softcap=softcap)
    )
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(gradients(loss, head, hidden), gradients(expected, head, hidden), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_without_rows_the_loss_is_zero_and_every_gradient_a_zero(chunks: int, bias: bool) -> None:
    head, hidden, targets = tensors(0, bias=bias)
    loss = linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=chunks)
    assert loss.item() == 0.0
    loss.backward()
    assert hidden.grad is not None
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())


def test_ignored_targets_count_nothing() -> None:
    head, hidden, targets = tensors(5)
    targets[[1, 4]] = -100
    loss = linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=2)
    torch.testing.assert_close(loss, reference(head, hidden[[0, 2, 3]], targets[[0, 2, 3]]))


@pytest.mark.parametrize(("rows", "chunks"), [(0, 3), (2, 3), (7, 3), (3, 1)])
def test_the_head_is_called_once_per_chunk_whatever_the_rows(rows: int, chunks: int) -> None:
    head = CountingHead()
    _, hidden, targets = tensors(rows)
    linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=chunks, recompute=True).backward()
    assert len(head.rows) == 2 * chunks  # forward, and again in backward
    assert max(head.rows) <= max(1, -(-rows // chunks))
    head.rows.clear()
    linear_ce.linear_scores(head, hidden, targets, chunks=chunks)
    assert len(head.rows) == chunks


def test_several_chunks_are_recomputed_by_default_and_a_single_one_is_not() -> None:
    head = CountingHead()
    _, hidden, targets = tensors(6)
    linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=1).backward()
    assert head.rows == [6]
    head.rows.clear()
    linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=2).backward()
    assert head.rows == [3] * 4


def test_recomputation_repeats_the_dropout_of_the_forward_pass() -> None:
    """The oracle takes each chunk through the same drawn masks and keeps its logits."""
    _, hidden, targets = tensors(6)
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, V))
    torch.manual_seed(5)
    chunked = linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=2, recompute=True)
    torch.manual_seed(5)
    expected = reference(head, hidden[:3], targets[:3]) + reference(head, hidden[3:], targets[3:])
    torch.testing.assert_close(chunked, expected)
    for got, wanted in zip(gradients(chunked, head, hidden), gradients(expected, head, hidden), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_loss_is_fp32_from_a_bfloat16_head() -> None:
    """Rounding a logit to 8 bits moves a token's loss by at most 2 * 2**-9 of the largest logit."""
    head, hidden, targets = tensors(9)
    expected = reference(head, hidden, targets)
    largest = head(hidden).abs().max().item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=2)
    assert loss.dtype == torch.float32
    assert loss.item() != expected.item()
    assert abs(loss.item() - expected.item()) <= 9 * 4 * largest * 2**-8


@pytest.mark.parametrize("chunks", [1, 3])
def test_bfloat16_logits_are_widened_before_the_softmax(chunks: int) -> None:
    """The oracle takes the rounded logits on in float64; a softmax in bfloat16 would be off by about 1e-3."""
    head, hidden, targets = tensors(9)
    head, hidden = head.bfloat16(), hidden.detach().bfloat16()
    expected = F.cross_entropy(head(hidden).double(), targets, reduction="sum").item()
    loss = linear_ce.linear_cross_entropy_sum(head, hidden, targets, chunks=chunks)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    scores = linear_ce.linear_scores(head, hidden, targets, chunks=chunks)
    assert scores[0].item() == pytest.approx(expected, rel=1e-6)


def test_scores_are_those_of_a_plain_loop() -> None:
    head, hidden, targets = tensors(8)
    targets[:3] = torch.tensor([*head(hidden[:2]).argmax(-1), -100])
    expected = [0.0, 0.0, 0.0]
    for row, target in zip(head(hidden).detach().double(), targets.tolist(), strict=True):
        if target == -100:
            continue
        expected[0] += (row.exp().sum().log() - row[target]).item()
        expected[1] += 1
        expected[2] += float(max(range(V), key=lambda token, row=row: row[token].item()) == target)
    assert 2 <= expected[2] < expected[1] == 7
    for chunks in (1, 3, 9):
        scores = linear_ce.linear_scores(head, hidden, targets, chunks=chunks)
        assert scores.dtype == torch.float64
        assert not scores.requires_grad
        assert scores.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_piece_stays_below_its_limit_of_logits() -> None:
    for vocab_size in (512, 32_000, 128_256, 262_144):
        for device in ("cpu", "cuda"):
            for rows in (0, 1, 255, 4096, 70_000):
                chunks = linear_ce.num_chunks(rows, vocab_size=vocab_size, device_type=device)
                assert chunks >= 1
                assert -(-rows // chunks) * vocab_size <= 2**25


def test_what_is_kept_for_the_backward_pass_stays_below_the_same_limit() -> None:
    for vocab_size in (512, 32_000, 128_256, 262_144):
        for rows in (1, 255, 4096, 70_000):
            chunks = linear_ce.num_chunks(rows, vocab_size=vocab_size, device_type="cpu")
            if linear_ce.keeps_probabilities(chunks, vocab_size=vocab_size, device_type="cpu"):
                assert rows * vocab_size <= 2**25
    assert linear_ce.keeps_probabilities(1, vocab_size=512, device_type="cpu")
    assert not linear_ce.keeps_probabilities(9, vocab_size=512, device_type="cpu")


@pytest.mark.parametrize("chunks", [1, 4])
def test_no_tensor_of_all_logits_is_ever_made_when_chunked(chunks: int) -> None:
    """Looks at every tensor that any operator returns, forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in (out if isinstance(out, (tuple, list)) else [out]) if hasattr(t, "numel"))
            return out

    rows, wide = 64, 97
    head, hidden = nn.Linear(D, wide), torch.randn(rows, D, requires_grad=True)
    with Watch():
        linear_ce.linear_cross_entropy_sum(head, hidden, torch.zeros(rows, dtype=torch.int64), chunks=chunks).backward()
    assert max(sizes) == rows * wide // chunks
