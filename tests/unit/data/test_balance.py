"""Packs are shared out so that ranks cost alike: each pack once, equal shapes, and figures for 64 ranks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.balance import (
    Shares,
    alike_in_steps,
    balance_of,
    cost_of_packs,
    cost_of_rows,
    load_of,
    num_pairs,
    packs_of,
    share_out,
)
from axo.data.collate import micro_batches
from axo.data.order import Alike, Order, make_order
from axo.plan.flops import find_costs
from axo.plan.plan import CostsPlan

TOKENS = CostsPlan(token=1, target=0, pair=0)
RANKS = 64


@dataclass
class Samples:
    lengths: np.ndarray
    trained: np.ndarray


def samples_of(lengths: list[int]) -> Samples:
    return Samples(np.array(lengths, dtype=np.int32), np.array(lengths, dtype=np.int32) // 2)


def one_each(count: int) -> list[np.ndarray]:
    return [np.array([number]) for number in range(count)]


def shared(lengths: list[int], *, costs: CostsPlan = TOKENS, world_size: int, rows: int, **keys: int | None) -> Shares:
    load = load_of(packs_of(one_each(len(lengths))), samples_of(lengths), costs)
    return share_out(load, costs, world_size=world_size, rows=rows, **{"length": None, "multiple_of": None, **keys})


def test_pairs_are_those_of_a_causal_mask() -> None:
    for length in (0, 1, 5, 9):
        for window in (None, 1, 4, 20):
            seen = [
                (query, key)
                for query in range(length)
                for key in range(query + 1)
                if window is None or query - key < window
            ]
            assert num_pairs(np.array([length]), window).tolist() == [len(seen)]


def test_the_cost_of_a_row_worked_out_by_hand() -> None:
    """Samples of 3 and 2 tokens in a row of 9: 9 tokens, 1 + 1 targets, pairs 6 + 3 and 10 of the padding; with a
    window of 2: 5 + 3 and 7."""
    costs = CostsPlan(token=1000, target=100, pair=10, windowed_pair=1, window=2)
    load = load_of(packs_of([np.array([0, 1])]), samples_of([3, 2]), costs)
    assert cost_of_rows(load, costs, length=9).tolist() == [9000 + 200 + 190 + 15]


def test_heavy_packs_stand_in_one_micro_batch_and_light_ones_make_up_for_them() -> None:
    shares = shared([4, 8, 1, 5], world_size=2, rows=1)
    assert [one.tolist() for one in shares.packs] == [[[1], [3]], [[2], [0]]]
    assert shares.costs.tolist() == [[8, 5], [1, 4]]


def test_rows_of_like_length_share_a_micro_batch_where_they_are_padded_to_the_longest() -> None:
    shares = shared([9, 1, 8, 2], world_size=2, rows=2)
    assert sorted(sorted(one) for one in shares.packs[0].tolist()) == [[0, 2], [1, 3]]
    assert sorted(shares.costs[0].tolist()) == [4, 18]
    rounded = shared([9, 1, 8, 2], world_size=2, rows=2, multiple_of=8)
    assert sorted(rounded.costs[0].tolist()) == [16, 32]


def test_rows_of_one_length_are_mixed_in_a_micro_batch() -> None:
    """Only targets differ: 4, 4, 0 and 0 of them."""
    costs = CostsPlan(token=0, target=1, pair=0)
    shares = shared([9, 8, 1, 1], costs=costs, world_size=2, rows=2, length=9)
    assert shares.costs.tolist() == [[4, 4]]


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    world_size=st.integers(2, 6),
    rows=st.integers(1, 4),
    length=st.sampled_from([None, 64]),
)
def test_each_pack_has_one_place_and_all_ranks_the_same_shapes(
    lengths: list[int], world_size: int, rows: int, length: int | None
) -> None:
    costs = CostsPlan(token=7, target=3, pair=1)
    balance = balance_of(samples_of(lengths), costs, length=length, multiple_of=4)
    packs = one_each(len(lengths))
    shares = [
        micro_batches(packs, rank=rank, world_size=world_size, micro_batch_size=rows, balance=balance)
        for rank in range(world_size)
    ]
    plain = micro_batches(packs, rank=0, world_size=world_size, micro_batch_size=rows)
    assert {tuple(map(len, share)) for share in shares} == {tuple(map(len, plain))}
    seen = [int(sample) for share in shares for micro_batch in share for pack in micro_batch for sample in pack]
    assert sorted(seen) == list(range(len(lengths)))


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=4, max_size=4))
def test_no_other_way_waits_less_in_micro_batches_or_at_the_end(lengths: list[int]) -> None:
    """Two ranks with two micro-batches each: all 24 ways are tried."""
    costs = shared(lengths, world_size=2, rows=1).costs
    ways = [np.array(way).reshape(2, 2) for way in permutations(lengths)]
    assert costs.max(1).sum() == min(way.max(1).sum() for way in ways)
    assert costs.sum(0).max() == min(way.sum(0).max() for way in ways)


def test_one_rank_takes_its_packs_in_their_order() -> None:
    packs, balance = one_each(5), balance_of(samples_of([1, 9, 3, 8, 2]), TOKENS, length=None, multiple_of=None)
    found = micro_batches(packs, rank=0, world_size=1, micro_batch_size=2, balance=balance)
    assert [[int(pack[0]) for pack in one] for one in found] == [[0, 1], [2, 3], [4]]


def numbers(order: Order, epoch: int, *, start: int = 0) -> list[list[int]]:
    return [[int(pack[0]) for pack in step] for step in order.steps(epoch, start=start)]


def order_of(lengths: list[int], *, packs_per_step: int, window: int | None, capacity: int | None = None) -> Order:
    samples = samples_of(lengths)
    alike = None
    if window is not None:
        alike = Alike(lambda packs: cost_of_packs(packs, samples, TOKENS, length=None), window)
    return make_order(
        samples.lengths, samples=np.arange(len(lengths)), capacity=capacity, packs_per_step=packs_per_step, seed=3,
        shuffle=True, alike=alike,
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    packs_per_step=st.integers(1, 5),
    window=st.integers(1, 6),
    epoch=st.integers(0, 2),
)
def test_a_window_moves_packs_between_its_own_steps_alone(
    lengths: list[int], packs_per_step: int, window: int, epoch: int
) -> None:
    plain = numbers(order_of(lengths, packs_per_step=packs_per_step, window=None), epoch)
    order = order_of(lengths, packs_per_step=packs_per_step, window=window)
    moved = numbers(order, epoch)
    assert [len(step) for step in moved] == [len(step) for step in plain]
    begin = 0
    for part in np.array_split(np.arange(len(plain)), max(len(plain) // window, 1)):
        end = begin + len(part)
        before, after = [*chain(*plain[begin:end])], [*chain(*moved[begin:end])]
        assert sorted(before) == sorted(after)
        begin = end
    assert numbers(order, epoch, start=1) == moved[1:]


def test_the_steps_of_a_window_are_alike_within_and_in_no_order_among_themselves() -> None:
    cost = np.arange(64.0)
    shuffled = np.random.RandomState(0).permutation(64)
    found = alike_in_steps(shuffled, cost, packs_per_step=4, window=16, draw=np.random.RandomState(1)).reshape(16, 4)
    assert all(np.ptp(cost[step]) == 3 for step in found)
    firsts = found[:, 0].tolist()
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))


LLAMA_8B = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
}  # fmt: skip
QWEN_HALF_B = {
    "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    "use_sliding_window": False,
}  # fmt: skip


def waiting(config: dict, *, capacity: int, accumulation: int, window: int | None) -> tuple[float, float]:
    """Max over ranks / mean over ranks, the mean of 16 steps of 64 ranks: of a step's sums (DDP), and of each
    micro-batch (FSDP). Lengths are log-normal: median 400 tokens, sigma 1."""
    costs = find_costs(config, frozen=False)
    assert costs is not None
    packs_per_step, steps = RANKS * accumulation, 16
    draw = np.random.RandomState(0)
    count = packs_per_step * steps * capacity // 600
    lengths = np.clip(400 * np.exp(draw.standard_normal(count)), 1, capacity).astype(np.int32)
    samples = Samples(lengths, (lengths * draw.uniform(0.2, 0.8, count)).astype(np.int32))
    alike = None if window is None else Alike(lambda p: cost_of_packs(p, samples, costs, length=capacity), window)
    order = make_order(
        lengths, samples=np.arange(count), capacity=capacity, packs_per_step=packs_per_step, seed=1, shuffle=True,
        alike=alike,
    )  # fmt: skip
    by_step, by_micro_batch = [], []
    for _, packs in zip(range(steps), order.steps(0), strict=False):
        load = load_of(packs_of(packs), samples, costs)
        found = share_out(load, costs, world_size=RANKS, rows=1, length=capacity, multiple_of=None).costs
        by_step.append(found.sum(0).max() / found.sum(0).mean())
        by_micro_batch.append(found.max(1).sum() / found.mean(1).sum())
    return float(np.mean(by_step)), float(np.mean(by_micro_batch))


@pytest.mark.parametrize("config", [LLAMA_8B, QWEN_HALF_B], ids=["8B", "0.5B"])
@pytest.mark.parametrize("capacity", [4096, 8192])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_64_ranks_wait_5_percent_at_most_with_a_window_of_8_steps(
    config: dict, capacity: int, accumulation: int
) -> None:
    assert max(waiting(config, capacity=capacity, accumulation=accumulation, window=8)) <= 1.05


@pytest.mark.parametrize("capacity", [4096, 8192])
def test_64_ranks_wait_5_percent_at_most_for_4_micro_batches_of_any_step(capacity: int) -> None:
    assert max(waiting(LLAMA_8B, capacity=capacity, accumulation=4, window=None)) <= 1.05
