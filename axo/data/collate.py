"""Packs of samples become the tensors of one micro-batch; here targets are shifted, once and for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from axo.data.balance import Balance
from axo.types import IGNORE_INDEX, Batch


class Samples(Protocol):
    """The parts of a store that collation needs; see axo/data/store.py."""

    lengths: np.ndarray
    trained: np.ndarray
    sets: np.ndarray
    num_sets: int

    def ids(self, samples: np.ndarray) -> list[np.ndarray]: ...

    def labels(self, samples: np.ndarray) -> list[np.ndarray]: ...

    def weights(self, samples: np.ndarray) -> list[np.ndarray]: ...

    @property
    def is_weighted(self) -> bool: ...


def collate(
    store: Samples, packs: Sequence[np.ndarray], *, pad_token_id: int, length: int | None, multiple_of: int | None
) -> Batch:
    """One row of T tokens for each pack: T = `length`, or the longest row rounded up to `multiple_of`.

    An empty pack gives a row of padding without any target.
    """
    lengths = [store.lengths[pack] for pack in packs]
    used = [int(own.sum()) for own in lengths]
    T = length or _rounded_up(max(used), multiple_of or 1)
    assert max(used) <= T, "a pack is longer than its row"
    rows = _Rows(packs, used, T)
    bounds = _bounds(lengths, used, T)
    lasts = bounds[1:] - 1
    positions = np.arange(len(packs) * T) - np.repeat(bounds[:-1], np.diff(bounds))
    targets = rows.filled(store.labels, IGNORE_INDEX, np.int64, shift=1)
    targets[lasts] = IGNORE_INDEX
    weights = None
    if store.is_weighted:
        weights = rows.filled(store.weights, 0.0, np.float32, shift=1)
        weights[lasts] = 0.0
    return Batch(
        input_ids=_tensor(rows.filled(store.ids, pad_token_id, np.int64), T),
        targets=_tensor(targets, T),
        position_ids=_tensor(positions, T),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        weights=None if weights is None else _tensor(weights, T),
        sets=None if store.num_sets == 1 else _tensor(_sets(store, packs, lengths, T), T),
        num_sets=store.num_sets,
    )


def micro_batches(
    packs: list[np.ndarray], *, rank: int, world_size: int, micro_batch_size: int, balance: Balance | None = None
) -> list[list[np.ndarray]]:
    """This rank's share of a step, cut into micro-batches: as `balance` shares them out, or packs rank,
    rank + world_size, ... Packs of one rank always stay in their order.

    Every rank gets equally many micro-batches of equally many packs; where packs run out, an empty one stands.
    """
    most = -(-len(packs) // world_size)
    if balance is not None and world_size > 1:
        filled = [*packs, _EMPTY]
        shares = balance(packs, world_size=world_size, rows=micro_batch_size)
        return [[filled[min(number, len(packs))] for number in one[rank].tolist()] for one in shares]
    own = packs[rank::world_size]
    own += [_EMPTY] * (most - len(own))
    return [own[begin : begin + micro_batch_size] for begin in range(0, most, micro_batch_size)]


class _Rows:
    """Where the values of packs stand in rows of T tokens, seen as one flat array."""

    def __init__(self, packs: Sequence[np.ndarray], used: Sequence[int], T: int) -> None:
        self._packs, self._used, self._T = packs, used, T

    def filled(
        self, pieces: Callable[[np.ndarray], list[np.ndarray]], padding: float, dtype: Any, *, shift: int = 0
    ) -> np.ndarray:
        """(B * T,) of the samples' values, one after the other from the start of each row, `shift` places earlier."""
        flat = np.empty(len(self._packs) * self._T, dtype=dtype)
        for number, (pack, used) in enumerate(zip(self._packs, self._used, strict=True)):
            row = flat[number * self._T : (number + 1) * self._T]
            if used:
                values = pieces(pack)
                values[0] = values[0][shift:]
                np.concatenate(values, out=row[: used - shift])
            row[max(used - shift, 0) :] = padding
        return flat


_EMPTY = np.empty(0, dtype=np.int64)


def _bounds(lengths: Sequence[np.ndarray], used: Sequence[int], T: int) -> np.ndarray:
    """(S + 1,) int64: where samples begin in the flat rows, the padding of a row being a sample of its own."""
    parts: list[np.ndarray] = []
    for own, tokens in zip(lengths, used, strict=True):
        parts.append(own)
        if tokens < T:
            parts.append(np.array([T - tokens]))
    return np.concatenate([[0], np.cumsum(np.concatenate(parts), dtype=np.int64)])


def _sets(store: Samples, packs: Sequence[np.ndarray], lengths: Sequence[np.ndarray], T: int) -> np.ndarray:
    """(B * T,) int64: the data set of each token; 0 on padding."""
    flat = np.zeros(len(packs) * T, dtype=np.int64)
    for number, (pack, own) in enumerate(zip(packs, lengths, strict=True)):
        values = np.repeat(store.sets[pack], own)
        flat[number * T : number * T + len(values)] = values
    return flat


def _tensor(flat: np.ndarray, T: int) -> torch.Tensor:
    return torch.from_numpy(flat).view(-1, T)


def _rounded_up(length: int, multiple: int) -> int:
    return max(-(-length // multiple), 1) * multiple
