"""Where the samples of a batch begin and end, and which of them can be computed together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Samples:
    """The samples of a flattened batch in their order, and the same samples grouped by length."""

    lengths: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    """Positions in `lengths` of the samples of one length."""
    num_tokens: int

    def fill_rows(self, rows: int) -> bool:
        """Whether each of `rows` rows is one sample, so that nothing has to be cut."""
        return len(self.lengths) == rows and len(self.groups) == 1


def from_bounds(cu_seqlens: torch.Tensor) -> Samples:
    """Samples from their bounds (S + 1,) in the flattened batch."""
    return _samples(tuple(cu_seqlens.tolist()))


def from_positions(position_ids: torch.Tensor | None, *, rows: int, row_length: int) -> Samples:
    """Samples from position ids (B or 1, T): one begins with each row and wherever a position does not follow the
    one before it, as transformers' masking_utils.find_packed_sequence_indices has it. None: each row is a sample."""
    if position_ids is None or position_ids.ndim != 2 or row_length == 1:
        return _samples(tuple(range(0, rows * row_length + 1, row_length)))
    starts = torch.ones((rows, row_length), dtype=torch.bool)
    starts[:, 1:] = (position_ids.diff(dim=1) != 1).cpu()
    return _samples((*starts.view(-1).nonzero().view(-1).tolist(), rows * row_length))


# Every layer of a forward and of its recomputation asks for the same few batches.
@lru_cache(maxsize=64)
def _samples(bounds: tuple[int, ...]) -> Samples:
    # A bound that is named twice encloses no token.
    lengths = tuple(end - start for start, end in pairwise(bounds) if end > start)
    groups: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        groups.setdefault(length, []).append(position)
    return Samples(lengths, tuple(tuple(group) for group in groups.values()), num_tokens=bounds[-1] - bounds[0])
