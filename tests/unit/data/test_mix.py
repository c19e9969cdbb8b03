"""How often each sample comes in an epoch: exact numbers, and the same for the same seed and epoch."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.mix import Mixture, Share, counts, draw, mix
from axo.data.order import make_order
from axo.errors import DataError

REPEATS = st.one_of(st.just(None), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]), st.floats(0.3, 4))


def seen(order_or_mixture: Mixture, epoch: int) -> Counter[int]:
    return Counter(order_or_mixture.samples(epoch).tolist())


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(5, 40), min_size=1, max_size=4),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 20),
)
def test_every_sample_comes_as_often_as_repeat_says_or_once_more(
    sizes: list[int], data: st.DataObject, seed: int, epoch: int
) -> None:
    repeats = [data.draw(REPEATS) for _ in sizes]
    sets = np.repeat(np.arange(len(sizes)), sizes)
    mixture = mix(sets, np.arange(len(sets)), shares=[Share(repeat=one) for one in repeats], seed=seed)
    found = seen(mixture, epoch)
    for number, (size, repeat) in enumerate(zip(sizes, repeats, strict=True)):
        own = [found[sample] for sample in np.flatnonzero(sets == number).tolist()]
        total = int((1.0 if repeat is None else repeat) * size + 0.5)
        assert sum(own) == total == mixture.counts[number]
        assert sorted(own) == [total // size] * (size - total % size) + [total // size + 1] * (total % size)


@settings(max_examples=150, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5), data=st.data())
def test_weights_share_out_as_many_samples_as_there_are(sizes: list[int], data: st.DataObject) -> None:
    weights = [data.draw(st.integers(1, 4)) for _ in sizes]
    exact = [Fraction(sum(sizes) * weight, sum(weights)) for weight in weights]
    if any(value < 1 for value in exact):
        return
    found = counts(sizes, [Share(weight=float(weight)) for weight in weights])
    assert sum(found) == sum(sizes)
    assert all(abs(count - value) < 1 for count, value in zip(found, exact, strict=True))
    rounded_down = [count < value for count, value in zip(found, exact, strict=True)]
    remainders = [value - int(value) for value in exact]
    up = [rest for rest, down in zip(remainders, rounded_down, strict=True) if rest and not down]
    assert not up or min(up) >= max(
        (rest for rest, down in zip(remainders, rounded_down, strict=True) if down), default=0
    )


def test_worked_by_hand() -> None:
    # 100 and 20 samples, weights 1 and 2: 120 samples an epoch, 40 of the first and 80 of the second.
    assert counts([100, 20], [Share(weight=1), Share(weight=2)]) == [40, 80]
    # A set with a repeat stands outside of the shares: 2 x 10, and 90 + 30 by weight.
    assert counts([60, 10, 60], [Share(weight=3), Share(repeat=2), Share(weight=1)]) == [90, 20, 30]
    # Three equal shares of 10: the first of equal remainders gets the one that is left.
    assert counts([8, 1, 1], [Share(weight=1)] * 3) == [4, 3, 3]
    assert counts([5, 3], [Share(), Share(repeat=0.5)]) == [5, 2]


def test_a_data_set_of_which_nothing_is_left_has_no_share() -> None:
    assert counts([0, 6, 6], [Share(weight=8), Share(weight=1), Share(weight=1)]) == [0, 6, 6]


@pytest.mark.parametrize("share", [Share(repeat=0.1), Share(weight=0.001)])
def test_a_data_set_that_would_give_nothing_is_refused(share: Share) -> None:
    with pytest.raises(DataError, match=r"datasets\.1 would give none of its 4 samples"):
        counts([10, 4], [Share(weight=1) if share.weight else Share(), share])


@settings(max_examples=80, deadline=None)
@given(size=st.integers(1, 60), part=st.integers(1, 59), seed=st.integers(0, 99), cycle=st.integers(0, 3))
def test_no_part_comes_again_before_all_others_that_fit_have_come(size: int, part: int, seed: int, cycle: int) -> None:
    if part >= size:
        return
    turns = size // part
    samples = np.arange(100, 100 + size)
    drawn = [draw(samples, part, seed=seed, number=1, epoch=cycle * turns + turn).tolist() for turn in range(turns)]
    assert all(len(one) == part and one == sorted(one) for one in drawn)
    assert len({sample for one in drawn for sample in one}) == part * turns


def test_a_half_is_drawn_anew_from_the_seed() -> None:
    samples = np.arange(40)

    def half(seed: int, epoch: int, number: int = 0) -> list[int]:
        return draw(samples, 20, seed=seed, number=number, epoch=epoch).tolist()

    assert half(1, 0) == half(1, 0)
    assert sorted(half(1, 0) + half(1, 1)) == list(range(40)), "two epochs of halves are one of everything"
    assert half(1, 2) not in (half(1, 0), half(1, 1))
    assert half(2, 0) != half(1, 0)
    assert half(1, 0, number=1) != half(1, 0)


@pytest.mark.parametrize("capacity", [None, 24])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_order_holds_exactly_the_samples_of_the_mixture_in_every_epoch(capacity: int | None, shuffle: bool) -> None:
    lengths = np.random.RandomState(0).randint(1, 20, size=50).astype(np.int32)
    sets = np.repeat([0, 1], [30, 20])
    mixture = mix(sets, np.arange(50), shares=[Share(repeat=1.3), Share(repeat=0.4)], seed=7)
    order = make_order(lengths, samples=mixture, capacity=capacity, packs_per_step=4, seed=7, shuffle=shuffle)
    for epoch in (2, 0, 1):
        steps = list(order.steps(epoch))
        assert len(steps) == order.steps_in(epoch)
        assert Counter(int(sample) for packs in steps for pack in packs for sample in pack) == seen(mixture, epoch)
        rest = [[pack.tolist() for pack in packs] for packs in order.steps(epoch, start=2)]
        assert rest == [[pack.tolist() for pack in packs] for packs in steps[2:]]


def test_whole_repeats_are_packed_once_and_in_order_one_pass_after_the_other() -> None:
    mixture = mix(np.array([0, 0, 1]), np.arange(3), shares=[Share(repeat=2), Share()], seed=0)
    assert mixture.is_fixed
    assert mixture.samples(5).tolist() == [0, 1, 0, 1, 2]
    order = make_order(
        np.array([3, 3, 3]), samples=mixture, capacity=6, packs_per_step=1, seed=0, shuffle=False, sequential=True
    )
    assert [pack.tolist() for packs in order.steps(1) for pack in packs] == [[0, 1], [0, 1], [2]]


def test_data_sets_are_shuffled_by_themselves_before_they_are_joined() -> None:
    sets = np.repeat([0, 1], [30, 20])
    mixture = mix(sets, np.arange(50), shares=[Share(), Share()], seed=3, shuffle_each=True)
    samples = mixture.samples(0).tolist()
    assert sorted(samples[:30]) == list(range(30))
    assert sorted(samples[30:]) == list(range(30, 50))
    assert samples[:30] != sorted(samples[:30])
    assert samples == mixture.samples(4).tolist()
