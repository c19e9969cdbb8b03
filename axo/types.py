"""The few data classes that travel between packages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100
"""Label of a token that is not trained (torch.nn.functional.cross_entropy's default)."""


@dataclass(frozen=True)
class Layout:
    """Where this process stands among the workers of a run."""

    rank: int = 0
    world_size: int = 1
    dp_rank: int = 0
    dp_size: int = 1


@dataclass(frozen=True)
class Batch:
    """One micro-batch, collated: B rows of T tokens, N = B * T in all."""

    input_ids: torch.Tensor
    """(B, T) int64."""
    targets: torch.Tensor
    """(B, T) int64, already shifted: targets[b, t] is the label of the token after input_ids[b, t];
    -100 where nothing is trained, at the last token of every sample and on padding."""
    position_ids: torch.Tensor
    """(B, T) int64, restarting at 0 with every sample (padding is a sample of its own)."""
    cu_seqlens: torch.Tensor
    """(S + 1,) int32, always on the CPU: bounds of the S samples in the flattened N tokens; no sample
    crosses a row."""
    loss_chunks: int = 0
    """How many pieces the chunked cross-entropy cuts this batch into: equal on all ranks. 0: its own choice."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its (B, T) tensors on `device`."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TOKEN_TENSORS}
        return replace(self, **moved)


_TOKEN_TENSORS = ("input_ids", "targets", "position_ids")


@dataclass(frozen=True)
class Update:
    """What one optimizer step did."""

    grad_norm: float
    skipped: bool = False


@dataclass(frozen=True)
class Sums:
    """Sums over trained tokens of an evaluation, over all ranks."""

    loss: float
    """Sum of token losses in nats."""
    count: float
    """Trained tokens."""
    correct: float
    """Trained tokens whose target is the most probable token."""
