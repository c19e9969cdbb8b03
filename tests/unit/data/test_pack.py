"""Packs: every sample once, never over capacity, and as few packs as a slow best-fit decreasing makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.pack import Packs, pack

CASES = st.integers(1, 60).flatmap(
    lambda capacity: st.tuples(st.just(capacity), st.lists(st.integers(1, capacity), max_size=80))
)


def slow_best_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    """Sample by sample, longest first, each into the fullest pack with room."""
    packs: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [members for members in packs if sum(members) + length <= capacity]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            packs.append([length])
    return packs


def slow_next_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    packs: list[list[int]] = []
    for length in lengths:
        if packs and sum(packs[-1]) + length <= capacity:
            packs[-1].append(length)
        else:
            packs.append([length])
    return packs


@settings(max_examples=150, deadline=None)
@given(case=CASES, sequential=st.booleans(), group_size=st.integers(1, 100))
def test_every_sample_is_in_one_pack_and_no_pack_is_too_long(
    case: tuple[int, list[int]], sequential: bool, group_size: int
) -> None:
    capacity, lengths = case
    packs = pack(np.array(lengths, dtype=np.int32), capacity=capacity, sequential=sequential, group_size=group_size)
    assert sorted(int(position) for members in packs for position in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[position] for position in members) <= capacity for members in packs)
    assert all((np.diff(members) > 0).all() for members in packs)
    assert all(len({position // group_size for position in members}) == 1 for members in packs)


@settings(max_examples=150, deadline=None)
@given(case=CASES)
def test_packs_are_filled_as_best_fit_decreasing_fills_them(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    packs = pack(np.array(lengths, dtype=np.int32), capacity=capacity, sequential=False, group_size=1000)
    # Which of two equally full packs takes a sample is free; how full the packs end up is not.
    filled = sorted(sum(lengths[position] for position in members) for members in packs)
    assert filled == sorted(sum(members) for members in slow_best_fit_decreasing(lengths, capacity))


@settings(max_examples=100, deadline=None)
@given(case=CASES, group_size=st.integers(1, 40))
def test_sequential_packs_keep_the_order(case: tuple[int, list[int]], group_size: int) -> None:
    capacity, lengths = case
    packs = pack(np.array(lengths, dtype=np.int32), capacity=capacity, sequential=True, group_size=group_size)
    groups = [lengths[start : start + group_size] for start in range(0, len(lengths), group_size)]
    expected = [members for group in groups for members in slow_next_fit(group, capacity)]
    assert [[lengths[position] for position in members] for members in packs] == expected
    assert [position for members in packs for position in members.tolist()] == list(range(len(lengths)))


def test_many_lengths_leave_little_room() -> None:
    lengths = np.random.RandomState(0).randint(1, 2000, size=150_000)
    packs = pack(lengths, capacity=70_000, sequential=False, group_size=200_000)
    assert len(packs) == -(-lengths.sum() // 70_000)
    assert sum(len(members) for members in packs) == len(lengths)


def test_a_sample_longer_than_a_pack_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        pack(np.array([5, 11]), capacity=10, sequential=False, group_size=10)


def test_packs_are_read_like_a_list_of_arrays() -> None:
    packs = Packs(np.array([4, 7, 1, 0]), np.array([0, 2, 2, 3, 4]))
    expected = [[4, 7], [], [1], [0]]
    assert [members.tolist() for members in packs] == expected
    assert [packs[number].tolist() for number in range(-4, 4)] == expected + expected
    assert [members.tolist() for members in packs[1:3]] == expected[1:3]
    assert packs.sums(np.arange(10, 20)).tolist() == [14 + 17, 0, 11, 10]
    with pytest.raises(IndexError):
        packs[4]


@settings(max_examples=60, deadline=None)
@given(case=CASES)
def test_packs_by_their_first_samples_are_the_sorted_packs(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    if not lengths:
        return
    packs = pack(np.array(lengths), capacity=capacity, sequential=False)
    numbers = np.arange(len(lengths))[::-1] * 3
    assert [one.tolist() for one in packs.by_first()] == sorted(one.tolist() for one in packs)
    assert [one.tolist() for one in packs.of(numbers)] == [numbers[one].tolist() for one in packs]


def test_one_group_of_all_samples_never_makes_more_packs_than_best_fit_decreasing() -> None:
    lengths = np.clip(200 * np.exp(0.9 * np.random.RandomState(3).standard_normal(3000)), 1, 1024).astype(int)
    packs = pack(lengths, capacity=1024, sequential=False)
    assert len(packs) <= len(slow_best_fit_decreasing(lengths.tolist(), 1024))
