"""Batches against plain loops: shifted targets, positions that restart, bounds that no sample crosses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.collate import collate


class Lists:
    """A store of plain lists."""

    def __init__(
        self,
        samples: list[tuple[list[int], list[int]]],
        *,
        weights: list[list[float]] | None = None,
        sets: list[int] | None = None,
    ) -> None:
        self._samples = samples
        self._weights = weights
        self.lengths = np.array([len(ids) for ids, _ in samples], dtype=np.int32)
        self.sets = np.array(sets or [0] * len(samples), dtype=np.int16)
        self.num_sets = int(self.sets.max()) + 1

    @property
    def is_weighted(self) -> bool:
        return self._weights is not None

    def ids(self, samples: np.ndarray) -> list[np.ndarray]:
        return [np.array(self._samples[sample][0], dtype=np.int32) for sample in samples]

    def labels(self, samples: np.ndarray) -> list[np.ndarray]:
        return [np.array(self._samples[sample][1], dtype=np.int32) for sample in samples]

    def weights(self, samples: np.ndarray) -> list[np.ndarray]:
        assert self._weights is not None
        return [np.array(self._weights[sample], dtype=np.float32) for sample in samples]

    def lists(self, sample: int) -> tuple[list[int], list[int]]:
        return self._samples[sample]


def slow(store: Lists, packs: list[list[int]], T: int, pad: int) -> tuple[list, list, list, list]:
    """Row by row and token by token."""
    ids, targets, positions, bounds = [], [], [], [0]
    for pack in packs:
        row: list[tuple[int, int, int]] = []
        for sample in pack:
            sample_ids, labels = store.lists(sample)
            row += list(zip(sample_ids, [*labels[1:], -100], range(len(sample_ids)), strict=True))
            bounds.append(bounds[-1] + len(sample_ids))
        padding = T - len(row)
        if padding:
            bounds.append(bounds[-1] + padding)
        row += [(pad, -100, position) for position in range(padding)]
        ids.append([entry[0] for entry in row])
        targets.append([entry[1] for entry in row])
        positions.append([entry[2] for entry in row])
    return ids, targets, positions, bounds


SAMPLE = st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=7).map(
    lambda tokens: ([token for token, _ in tokens], [token if trained else -100 for token, trained in tokens])
)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), samples=st.lists(SAMPLE, min_size=1, max_size=8), multiple=st.sampled_from([None, 1, 8]))
def test_a_batch_is_what_a_plain_loop_makes(data: Any, samples: list, multiple: int | None) -> None:
    store = Lists(samples)
    packs = data.draw(
        st.lists(st.lists(st.integers(0, len(samples) - 1), max_size=3), min_size=1, max_size=4), label="packs"
    )
    longest = max(sum(len(samples[sample][0]) for sample in pack) for pack in packs)
    fixed = data.draw(st.sampled_from([None, longest + 3, max(longest, 1)]), label="length")
    unit = multiple or 1
    T = fixed or max(-(-longest // unit), 1) * unit
    arrays = [np.array(pack, dtype=np.int64) for pack in packs]
    batch = collate(store, arrays, pad_token_id=7, length=fixed, multiple_of=multiple)
    ids, targets, positions, bounds = slow(store, packs, T, 7)
    assert batch.input_ids.tolist() == ids
    assert batch.targets.tolist() == targets
    assert batch.position_ids.tolist() == positions
    assert batch.cu_seqlens.tolist() == bounds
    assert batch.input_ids.dtype == batch.targets.dtype == batch.position_ids.dtype == torch.int64
    assert batch.cu_seqlens.dtype == torch.int32


ALL_TRAINED = Lists([([1, 2, 3], [1, 2, 3]), ([4, 5], [4, 5]), ([6], [6])])


def test_the_first_token_of_a_packed_sample_is_never_a_target() -> None:
    batch = collate(ALL_TRAINED, [np.array([0, 1, 2])], pad_token_id=0, length=8, multiple_of=None)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 0, 0]]
    assert batch.targets.tolist() == [[2, 3, -100, 5, -100, -100, -100, -100]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 0, 1]]
    assert batch.cu_seqlens.tolist() == [0, 3, 5, 6, 8]


def test_an_empty_pack_is_a_row_without_targets() -> None:
    empty = np.empty(0, dtype=np.int64)
    batch = collate(ALL_TRAINED, [empty, np.array([1])], pad_token_id=9, length=None, multiple_of=4)
    assert batch.input_ids.tolist() == [[9, 9, 9, 9], [4, 5, 9, 9]]
    assert batch.targets.tolist() == [[-100] * 4, [5, -100, -100, -100]]
    assert batch.cu_seqlens.tolist() == [0, 4, 6, 8]
    alone = collate(ALL_TRAINED, [empty], pad_token_id=9, length=None, multiple_of=None)
    assert alone.input_ids.shape == (1, 1)


@pytest.mark.parametrize(("length", "pad"), [(3, 0), (8, 0), (8, 3), (64, 1)])
def test_amount_and_id_of_padding_leave_the_targets_as_they_are(length: int, pad: int) -> None:
    batch = collate(ALL_TRAINED, [np.array([0])], pad_token_id=pad, length=length, multiple_of=None)
    assert batch.targets.tolist() == [[2, 3] + [-100] * (length - 2)]


def test_a_pack_longer_than_its_row_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        collate(ALL_TRAINED, [np.array([0, 1])], pad_token_id=0, length=4, multiple_of=None)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), samples=st.lists(SAMPLE, min_size=1, max_size=6), padding=st.integers(0, 3))
def test_weights_and_data_sets_stand_beside_their_targets(data: Any, samples: list, padding: int) -> None:
    weights = [
        [0.0 if label == -100 else data.draw(st.sampled_from([0.25, 1.0, 3.0])) for label in labels]
        for _, labels in samples
    ]
    sets = data.draw(st.lists(st.integers(0, 2), min_size=len(samples), max_size=len(samples)))
    pack = data.draw(st.permutations(range(len(samples))))
    T = sum(len(ids) for ids, _ in samples) + padding
    store = Lists(samples, weights=weights, sets=sets)
    batch = collate(store, [np.array(pack)], pad_token_id=7, length=T, multiple_of=None)
    wanted, numbers = [], []
    for sample in pack:
        wanted += [*weights[sample][1:], 0.0]
        numbers += [sets[sample]] * len(weights[sample])
    assert batch.weights is not None
    assert batch.weights.dtype == torch.float32
    assert batch.weights.tolist() == [wanted + [0.0] * padding]
    assert ((batch.weights > 0) == (batch.targets != -100)).all()
    assert batch.num_sets == max(sets) + 1
    if batch.num_sets == 1:
        assert batch.sets is None
    else:
        assert batch.sets is not None
        assert batch.sets[0, : len(numbers)].tolist() == numbers


def test_plain_data_of_one_data_set_brings_neither_weights_nor_numbers() -> None:
    batch = collate(ALL_TRAINED, [np.array([0])], pad_token_id=0, length=None, multiple_of=None)
    assert batch.weights is None
    assert batch.sets is None
