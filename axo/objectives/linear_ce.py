"""Cross-entropy over a language-model head, piece by piece, so that the (N, V) logits never exist at once.

Measured on one CPU core, fp32, 4,096 rows of width 256, forward + backward in CPU time: recomputing a piece costs
35 to 40 % (V 512: 53 ms against 38 ms) and pieces of up to 2**22 logits, which the allocator reuses, save 25 %
(V 8,192: 622 ms against 815 ms in one piece; V 32,000: 2.5 s against 3.2 s). Hence the constants below.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from axo.objectives.logits import IDENTITY, LogitTransform
from axo.types import IGNORE_INDEX

MAX_LOGITS = 2**25
"""Most logits of a piece, and most logits whose probabilities are kept for the backward pass (128 MiB in fp32)."""
CPU_LOGITS = 2**22
"""Logits of a piece on a CPU: 16 MiB in fp32 stay below the size at which glibc maps fresh pages for each tensor."""
MIN_ROWS = 256
"""A smaller piece would spend more on adding up the head's gradient than on its matrix products."""


def linear_cross_entropy_sum(
    head: nn.Module,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    *,
    chunks: int,
    weights: torch.Tensor | None = None,
    transform: LogitTransform = IDENTITY,
    recompute: bool | None = None,
) -> torch.Tensor:
    """Sum of the cross-entropies of softmax(transform(head(hidden))) and targets, in nats: fp32 scalar.

    hidden (N, D), targets (N,) int64 at trained positions (-100 counts nothing), weights (N,) float32: how much each
    counts (None: 1); weights (S, N) make S sums, (S,), each with weights of its own. `head` is called as a module
    exactly `chunks` times, and once more each in the backward pass where `recompute` (unset: with several chunks; a
    single piece is the first thing backward needs, so computing it twice saves nothing). A chunk without rows calls the
    head on one row of zeros that counts nothing: every rank makes equally many calls and every gradient is a zero, not
    None.
    """
    recompute = chunks > 1 if recompute is None else recompute
    total = torch.zeros(_sums(weights), dtype=torch.float32, device=hidden.device)
    for rows, labels, shares in _pieces(hidden, targets, weights, chunks=chunks):
        if recompute and torch.is_grad_enabled():
            total = total + checkpoint(_loss_sum, head, rows, labels, shares, transform, use_reentrant=False)
        else:
            total = total + _loss_sum(head, rows, labels, shares, transform)
    return total


@torch.no_grad()
def linear_scores(
    head: nn.Module,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    *,
    chunks: int,
    weights: torch.Tensor | None = None,
    transform: LogitTransform = IDENTITY,
) -> torch.Tensor:
    """[loss sum in nats, trained tokens, tokens whose target has the highest logit]: (3,) float64, no gradient; each
    token counts as its weight (N,) says. (3, S) with weights (S, N)."""
    total = torch.zeros(3, *_sums(weights), dtype=torch.float64, device=hidden.device)
    for rows, labels, shares in _pieces(hidden, targets, weights, chunks=chunks):
        total += scores(transform(head(rows)), labels, shares)
    return total


def scores(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """[loss sum, trained tokens, correct tokens] of logits (N, V), targets and weights (N,): (3,) float64; (3, S) with
    weights (S, N)."""
    loss = weighted_loss(logits, targets, weights)
    shares = (targets != IGNORE_INDEX).double() if weights is None else weights.double()
    correct = shares[..., logits.argmax(-1) == targets].sum(-1)
    return torch.stack([loss.double(), shares.sum(-1), correct])


def num_chunks(rows: int, *, vocab_size: int, device_type: str) -> int:
    """How many pieces `rows` trained positions are cut into; at least 1. A function of sizes only."""
    return max(1, ceil(rows / _rows_per_piece(vocab_size, device_type)))


def keeps_probabilities(chunks: int, *, vocab_size: int, device_type: str) -> bool:
    """Whether `chunks` pieces of num_chunks's size are few enough to be kept instead of recomputed. It looks at the
    number of pieces, which is equal on all ranks, and not at this rank's rows."""
    return chunks == 1 or chunks * _rows_per_piece(vocab_size, device_type) * vocab_size <= MAX_LOGITS


def _rows_per_piece(vocab_size: int, device_type: str) -> int:
    most = max(1, MAX_LOGITS // vocab_size)
    return min(most, max(MIN_ROWS, CPU_LOGITS // vocab_size)) if device_type == "cpu" else most


def _pieces(
    hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None, *, chunks: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """`chunks` pieces whose sizes differ by at most one row. One split: slices would each add a full-size gradient."""
    small, larger = divmod(len(targets), chunks)
    sizes = [small + 1] * larger + [small] * (chunks - larger)
    shares = [None] * chunks if weights is None else weights.split(sizes, dim=-1)
    for rows, labels, share in zip(hidden.split(sizes), targets.split(sizes), shares, strict=True):
        if len(labels):
            yield rows, labels, share
        else:
            padded = None if share is None else F.pad(share, (0, 1))
            yield F.pad(rows, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=IGNORE_INDEX), padded


def _loss_sum(
    head: nn.Module, rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, transform: LogitTransform
) -> torch.Tensor:
    return weighted_loss(transform(head(rows)), labels, weights)


def weighted_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The sum of the tokens' losses, each times its weight (N,), or the S sums with weights (S, N)."""
    if weights is None:
        return F.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    losses = F.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="none")
    return (losses * weights).sum(-1)


def _sums(weights: torch.Tensor | None) -> torch.Size:
    """The shape of the sums that weights of this shape make."""
    return torch.Size() if weights is None else weights.shape[:-1]
