"""Micro-batches of all ranks: equal shapes, every sample once, evaluation in equally many forwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from axo.plan.plan import CostsPlan
from axo.train.batches import batch_maker
from axo.types import Batch, Layout

COSTS = CostsPlan(token=10, target=2, pair=1)


class Samples:
    """Sample s has tokens s + 1 alone, all trained."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths, dtype=np.int32)
        self.trained = self.lengths - 1
        self.sets, self.num_sets, self.is_weighted = np.zeros(len(lengths), dtype=np.int16), 1, False

    def ids(self, samples: np.ndarray) -> list[np.ndarray]:
        return [np.full(self.lengths[sample], sample + 1, dtype=np.int32) for sample in samples]

    labels = ids

    def weights(self, samples: np.ndarray) -> list[np.ndarray]:
        raise AssertionError("samples without weights were asked for them")


def batches_of(store: Samples, packs: Any, *, rank: int, world_size: int, rows: int, length: int | None) -> list[Batch]:
    engine: Any = SimpleNamespace(layout=Layout(rank, world_size, rank, world_size))
    make = batch_maker(
        store, pad_token_id=0, engine=engine, rows=rows, length=length, multiple_of=None, costs=COSTS
    )  # fmt: skip
    return make(packs)


@pytest.mark.parametrize("length", [None, 40])
@pytest.mark.parametrize("rows", [1, 2])
def test_all_ranks_together_train_the_tokens_of_one(rows: int, length: int | None) -> None:
    lengths = np.random.RandomState(0).randint(2, 20, size=22).tolist()
    store, packs = Samples(lengths), [np.array([2 * at, 2 * at + 1]) for at in range(11)]

    def tokens(batches: list[Batch]) -> list[int]:
        return torch.cat([batch.targets[batch.targets >= 0] for batch in batches]).tolist()

    ranks = [batches_of(store, packs, rank=rank, world_size=4, rows=rows, length=length) for rank in range(4)]
    assert len({tuple(len(batch.input_ids) for batch in own) for own in ranks}) == 1
    one = batches_of(store, packs, rank=0, world_size=1, rows=rows, length=length)
    assert sorted(tokens([batch for own in ranks for batch in own])) == sorted(tokens(one))
    assert [int(batch.input_ids[0, 0]) for batch in one] == [2 * at + 1 for at in range(0, 11, rows)]


def test_ranks_that_share_out_by_cost_wait_less_than_ranks_that_take_turns() -> None:
    lengths = [30, 2, 28, 3, 2, 26, 3, 32]
    store, packs = Samples(lengths), [np.array([at]) for at in range(8)]
    ranks = [batches_of(store, packs, rank=rank, world_size=2, rows=1, length=None) for rank in range(2)]
    waits = [max(batch.input_ids.numel() for batch in place) for place in zip(*ranks, strict=True)]
    assert waits == [32, 28, 3, 2]
    in_turn = [max(lengths[at : at + 2]) for at in range(0, 8, 2)]
    assert sum(waits) < sum(in_turn)
