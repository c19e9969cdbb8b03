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

    def __init__(self, samples: list[tuple[list[int], list[int]]]) -> None:
        self._samples = samples
        self.lengths = np.array([len(ids) for ids, _ in samples], dtype=np.int32)

    def __getitem__(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        ids, labels = self._samples[sample]
        return np.array(ids, dtype=np.int32), np.array(labels, dtype=np.int32)


def slow(store: Lists, packs: list[list[int]], T: int, pad: int) -> tuple[list, list, list, list]:
    """Row by row and token by token."""
    ids, targets, positions, bounds = [], [], [], [0]
    for pack in packs:
        row: list[tuple[int, int, int]] = []
        for sample in pack:
            sample_ids, labels = (values.tolist() for values in store[sample])
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
    batch = collate(store, arrays, pad_token_id=7, length=fixed, multiple_of=multiple)  # type: ignore[arg-type]
    ids, targets, positions, bounds = slow(store, packs, T, 7)
    assert batch.input_ids.tolist() == ids
    assert batch.targets.tolist() == targets
    assert batch.position_ids.tolist() == positions
    assert batch.cu_seqlens.tolist() == bounds
    assert batch.input_ids.dtype == batch.targets.dtype == batch.position_ids.dtype == torch.int64
    assert batch.cu_seqlens.dtype == torch.int32


ALL_TRAINED = Lists([([1, 2, 3], [1, 2, 3]), ([4, 5], [4, 5]), ([6], [6])])


def test_the_first_token_of_a_packed_sample_is_never_a_target() -> None:
    batch = collate(ALL_TRAINED, [np.array([0, 1, 2])], pad_token_id=0, length=8, multiple_of=None)  # type: ignore[arg-type]
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 0, 0]]
    assert batch.targets.tolist() == [[2, 3, -100, 5, -100, -100, -100, -100]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 0, 1]]
    assert batch.cu_seqlens.tolist() == [0, 3, 5, 6, 8]


def test_an_empty_pack_is_a_row_without_targets() -> None:
    empty = np.empty(0, dtype=np.int64)
    batch = collate(ALL_TRAINED, [empty, np.array([1])], pad_token_id=9, length=None, multiple_of=4)  # type: ignore[arg-type]
    assert batch.input_ids.tolist() == [[9, 9, 9, 9], [4, 5, 9, 9]]
    assert batch.targets.tolist() == [[-100] * 4, [5, -100, -100, -100]]
    assert batch.cu_seqlens.tolist() == [0, 4, 6, 8]
    alone = collate(ALL_TRAINED, [empty], pad_token_id=9, length=None, multiple_of=None)  # type: ignore[arg-type]
    assert alone.input_ids.shape == (1, 1)


@pytest.mark.parametrize(("length", "pad"), [(3, 0), (8, 0), (8, 3), (64, 1)])
def test_amount_and_id_of_padding_leave_the_targets_as_they_are(length: int, pad: int) -> None:
    batch = collate(ALL_TRAINED, [np.array([0])], pad_token_id=pad, length=length, multiple_of=None)  # type: ignore[arg-type]
    assert batch.targets.tolist() == [[2, 3] + [-100] * (length - 2)]


def test_a_pack_longer_than_its_row_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        collate(ALL_TRAINED, [np.array([0, 1])], pad_token_id=0, length=4, multiple_of=None)  # type: ignore[arg-type]
