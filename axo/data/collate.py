"""Packs of samples become the tensors of one micro-batch; here targets are shifted, once and for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from axo.types import IGNORE_INDEX, Batch

if TYPE_CHECKING:
    from axo.data.store import Store


def collate(
    store: Store, packs: Sequence[np.ndarray], *, pad_token_id: int, length: int | None, multiple_of: int | None
) -> Batch:
    """One row of T tokens for each pack: T = `length`, or the longest row rounded up to `multiple_of`.

    An empty pack gives a row of padding without any target.
    """
    rows = [pack.tolist() for pack in packs]
    row_lengths = [int(store.lengths[pack].sum()) for pack in packs]
    T = length or _rounded_up(max(row_lengths), multiple_of or 1)
    assert max(row_lengths) <= T, "a pack is longer than its row"
    # Flat, because samples do not care where rows end.
    ids = np.full(len(packs) * T, pad_token_id, dtype=np.int64)
    targets = np.full(len(packs) * T, IGNORE_INDEX, dtype=np.int64)
    starts: list[int] = []
    for number, samples in enumerate(rows):
        at = number * T
        for sample in samples:
            sample_ids, labels = store[sample]
            end = at + len(sample_ids)
            ids[at:end] = sample_ids
            targets[at : end - 1] = labels[1:]
            starts.append(at)
            at = end
        if at < (number + 1) * T:
            starts.append(at)
    bounds = np.array([*starts, len(ids)], dtype=np.int64)
    positions = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds))
    return Batch(
        input_ids=torch.from_numpy(ids).view(-1, T),
        targets=torch.from_numpy(targets).view(-1, T),
        position_ids=torch.from_numpy(positions).view(-1, T),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
    )


def micro_batches(
    packs: list[np.ndarray], *, rank: int, world_size: int, micro_batch_size: int
) -> list[list[np.ndarray]]:
    """This rank's share of a step, cut into micro-batches: packs rank, rank + world_size, ...

    Every rank gets equally many micro-batches of equally many packs; where packs run out, an empty one stands.
    """
    own = packs[rank::world_size]
    most = -(-len(packs) // world_size)
    own += [np.empty(0, dtype=np.int64)] * (most - len(own))
    return [own[begin : begin + micro_batch_size] for begin in range(0, most, micro_batch_size)]


def _rounded_up(length: int, multiple: int) -> int:
    return max(-(-length // multiple), 1) * multiple
