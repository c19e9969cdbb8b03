"""The order of an epoch: every sample once over all ranks, whatever their number; the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.collate import micro_batches
from axo.data.order import Order, length_grouped, make_order, part, split
from axo.data.pack import single
from axo.errors import DataError

SETTINGS = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(1, 20), min_size=1, max_size=40),
        "capacity": st.sampled_from([None, 20, 33]),
        "packs_per_step": st.integers(1, 9),
        "seed": st.integers(0, 2**32 - 1),
        "shuffle": st.booleans(),
        "sequential": st.booleans(),
        "group_size": st.integers(1, 50),
    }
)


def order_of(settings_: dict, indices: np.ndarray | None = None) -> Order:
    keys = dict(settings_)
    lengths = np.array(keys.pop("lengths"), dtype=np.int32)
    return make_order(lengths, samples=np.arange(len(lengths)) if indices is None else indices, **keys)


@settings(max_examples=100, deadline=None)
@given(given_=SETTINGS, world_size=st.integers(1, 5), micro_batch_size=st.integers(1, 4), epoch=st.integers(0, 3))
def test_each_sample_is_seen_once_an_epoch_over_all_ranks(
    given_: dict, world_size: int, micro_batch_size: int, epoch: int
) -> None:
    order = order_of(given_)
    seen: list[int] = []
    steps = list(order.steps(epoch))
    for packs in steps:
        shares = [
            micro_batches(packs, rank=rank, world_size=world_size, micro_batch_size=micro_batch_size)
            for rank in range(world_size)
        ]
        assert len({tuple(len(micro_batch) for micro_batch in share) for share in shares}) == 1
        assert all(1 <= len(micro_batch) <= micro_batch_size for share in shares for micro_batch in share)
        seen += [int(sample) for share in shares for micro_batch in share for pack in micro_batch for sample in pack]
    assert sorted(seen) == list(range(len(given_["lengths"])))
    assert len(steps) == order.steps_in(epoch) == math.ceil(len(order.packs) / order.packs_per_step)
    assert all(len(packs) == order.packs_per_step for packs in steps[:-1])


def test_ranks_take_packs_in_turn() -> None:
    packs = [np.array([number]) for number in range(7)]
    shares = [micro_batches(packs, rank=rank, world_size=3, micro_batch_size=2) for rank in range(3)]
    assert [[[pack.tolist() for pack in micro] for micro in share] for share in shares] == [
        [[[0], [3]], [[6]]],
        [[[1], [4]], [[]]],
        [[[2], [5]], [[]]],
    ]


@settings(max_examples=50, deadline=None)
@given(given_=SETTINGS, epoch=st.integers(0, 3), start=st.integers(0, 50))
def test_a_resumed_epoch_goes_on_where_it_was(given_: dict, epoch: int, start: int) -> None:
    whole = [[pack.tolist() for pack in packs] for packs in order_of(given_).steps(epoch)]
    rest = [[pack.tolist() for pack in packs] for packs in order_of(given_).steps(epoch, start=start)]
    assert rest == whole[start:]


def test_the_seed_and_the_epoch_alone_decide_the_order() -> None:
    keys = {
        "lengths": list(range(1, 60)), "capacity": 64, "packs_per_step": 3, "shuffle": True, "sequential": False,
        "group_size": 1000,
    }  # fmt: skip

    def epoch_of(seed: int, epoch: int) -> list:
        return [[pack.tolist() for pack in packs] for packs in order_of({**keys, "seed": seed}).steps(epoch)]

    assert epoch_of(1, 0) == epoch_of(1, 0)
    assert epoch_of(1, 0) != epoch_of(1, 1)
    assert epoch_of(1, 0) != epoch_of(2, 0)
    packs = [sorted(pack for step in epoch_of(1, epoch) for pack in step) for epoch in (0, 1)]
    assert packs[0] == packs[1], "packs are made once"


def test_without_shuffling_samples_come_in_their_order() -> None:
    keys = {"lengths": [5, 9, 3, 8], "packs_per_step": 2, "seed": 0, "shuffle": False, "group_size": 10}
    one_each = order_of({**keys, "capacity": None, "sequential": False})
    assert [[pack.tolist() for pack in packs] for packs in one_each.steps(3)] == [[[0], [1]], [[2], [3]]]
    packed = order_of({**keys, "capacity": 14, "sequential": True})
    assert [[pack.tolist() for pack in packs] for packs in packed.steps(3)] == [[[0, 1], [2, 3]]]


def test_only_the_given_samples_are_ordered() -> None:
    keys = {"lengths": [4] * 10, "packs_per_step": 1, "seed": 5, "shuffle": True, "sequential": False, "group_size": 10}
    for capacity in (None, 8):
        order = order_of({**keys, "capacity": capacity}, indices=np.array([1, 4, 7, 9]))
        assert sorted(int(sample) for pack in order.packs for sample in pack) == [1, 4, 7, 9]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 200), share=st.floats(0, 0.9), seed=st.integers(0, 2**32 - 1))
def test_a_split_shares_samples_out_without_overlap(n: int, share: float, seed: int) -> None:
    held = math.ceil(n * share)
    if held >= n:
        return
    train, evaluation = split(n, val_set_size=share, seed=seed)
    assert sorted([*train.tolist(), *evaluation.tolist()]) == list(range(n))
    assert len(evaluation) == held
    assert (np.diff(train) > 0).all()
    assert (np.diff(evaluation) > 0).all()


def test_a_split_by_number_holds_out_that_many() -> None:
    train, evaluation = split(100, val_set_size=10, seed=1)
    assert (len(train), len(evaluation)) == (90, 10)
    assert split(100, val_set_size=10, seed=1)[1].tolist() == evaluation.tolist()
    assert split(100, val_set_size=10, seed=2)[1].tolist() != evaluation.tolist()
    assert split(5, val_set_size=0, seed=1)[1].tolist() == []


@pytest.mark.parametrize("size", [5, 7, 0.99])
def test_a_split_that_leaves_nothing_to_train_is_refused(size: float) -> None:
    with pytest.raises(DataError, match="holds out"):
        split(5, val_set_size=size, seed=0)


def test_draws_are_those_that_numpy_has_frozen() -> None:
    # What numpy 2.2 draws from RandomState([3, 2, 1]); no release may change this legacy stream (NEP 19).
    expected = [3, 0, 1, 4, 2, 5]
    order = Order(lambda _: single(np.arange(6)), packs_per_step=6, seed=3, shuffle=True)
    assert [pack.tolist()[0] for pack in next(order.steps(1))] == expected


@pytest.mark.parametrize(("n", "batch_size"), [(1, 4), (7, 2), (40, 4), (1000, 3), (64, 64), (130, 8)])
def test_grouping_by_length_is_that_of_transformers(n: int, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    draw = np.random.RandomState(n)
    lengths, shuffled = draw.permutation(n) + 1, draw.permutation(n)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: torch.from_numpy(shuffled))
    expected = get_length_grouped_indices(lengths.tolist(), batch_size)
    assert length_grouped(shuffled, lengths, batch_size=batch_size).tolist() == expected


def test_an_order_that_groups_by_length_pads_less_and_still_sees_each_sample_once() -> None:
    lengths = np.random.RandomState(1).randint(1, 500, size=400).astype(np.int32)
    keys = {"capacity": None, "packs_per_step": 4, "seed": 1, "shuffle": True}
    grouped = make_order(lengths, samples=np.arange(400), group_by_length=True, **keys)
    plain = make_order(lengths, samples=np.arange(400), **keys)

    def padding(order: Order, epoch: int) -> int:
        steps = [[int(lengths[pack].sum()) for pack in packs] for packs in order.steps(epoch)]
        return sum(max(step) * len(step) - sum(step) for step in steps)

    for epoch in (0, 1):
        seen = [int(sample) for packs in grouped.steps(epoch) for pack in packs for sample in pack]
        assert sorted(seen) == list(range(400))
        assert padding(grouped, epoch) < padding(plain, epoch) / 5
    first = [[pack.tolist() for pack in packs] for packs in grouped.steps(0)]
    assert first[0][0] == [int(lengths.argmax())], "the longest comes first, so that memory that does not suffice shows"
    assert first != [[pack.tolist() for pack in packs] for packs in grouped.steps(1)]


@pytest.mark.parametrize("n", [1, 7, 100])
@pytest.mark.parametrize("parts", [1, 3, 4])
def test_parts_are_those_of_datasets_and_share_everything_out(n: int, parts: int) -> None:
    import datasets

    table = datasets.Dataset.from_dict({"number": list(range(n))})
    if parts > n:
        return
    for index in range(parts):
        expected = table.shard(num_shards=parts, index=index)["number"][:]
        assert part(n, parts=parts, index=index, seed=0, shuffle=False).tolist() == expected
    shuffled = [part(n, parts=parts, index=index, seed=5, shuffle=True).tolist() for index in range(parts)]
    assert sorted(number for one in shuffled for number in one) == list(range(n))
    assert all(one == sorted(one) for one in shuffled)
