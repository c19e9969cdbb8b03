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
    weights: torch.Tensor | None = None
    """(B, T) float32: how much the loss of each target counts, 0 where nothing is trained; None: 1 for every target."""
    sets: torch.Tensor | None = None
    """(B, T) int64: number of the data set that each target is of; None: all are of one data set."""
    num_sets: int = 1
    """Data sets that `sets` counts."""
    loss_chunks: int = 0
    """How many pieces the chunked cross-entropy cuts this batch into: equal on all ranks. 0: its own choice."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sample."""
        return int(self.cu_seqlens.diff().max())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its (B, T) tensors on `device`."""
        tensors = {name: getattr(self, name) for name in _TOKEN_TENSORS}
        moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items() if value is not None}
        return replace(self, **moved)


_TOKEN_TENSORS = ("input_ids", "targets", "position_ids", "weights", "sets")


@dataclass(frozen=True)
class Update:
    """What one optimizer step did."""

    grad_norm: float
    """Before clipping."""
    skipped: bool = False
    """Gradients overflowed float16 and nothing was changed; the norm is then infinite."""
    loss_scale: float | None = None
    """Factor on the loss of the next step; None: losses are not scaled."""


@dataclass(frozen=True)
class Sums:
    """Sums over trained tokens of an evaluation, over all ranks."""

    loss: float
    """Sum of token losses in nats, each times its weight."""
    count: float
    """Sum of the weights of trained tokens."""
    correct: float
    """Sum of the weights of trained tokens whose target is the most probable token."""
    trained_tokens: int = 0
    """How many there are, whatever they weigh."""
    sets: tuple[Sums, ...] = ()
    """The same of each data set, where there are several."""
