"""Rows of slices and parts are estimated as they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from axo.data.source import kind, read_rows, source_files
from axo.plan.estimate import DataEstimate, estimate_data
from axo.recipe.data import DatasetEntry


def estimate(entry: DatasetEntry) -> DataEstimate:
    return estimate_data([entry], files_of=lambda one: [(file, kind(file, one)) for file in source_files(one)])


def rows_of(path: Path, count: int) -> Path:
    path.write_text((json.dumps({"text": "x" * 100}) + "\n") * count)
    return path


SELECTED = [
    {}, {"split": "train[:5%]"}, {"split": "train[10:30]+train[-5:]"}, {"shards": 7, "shards_idx": 6}, {"shards": 7},
    {"split": "train[20%:]", "shards": 3, "shards_idx": 1}, {"split": "train+train"}, {"split": "train[130:500]"},
]  # fmt: skip


@pytest.mark.parametrize("keys", SELECTED)
def test_rows_that_a_split_or_a_part_selects_are_those_that_are_read(keys: dict[str, Any], tmp_path: Path) -> None:
    entry = DatasetEntry(path=str(rows_of(tmp_path / "a.jsonl", 137)), type="completion", **keys)
    data = estimate(entry)
    assert (data.rows, data.exact) == (sum(1 for _ in read_rows(entry)), True)
    assert data.tokens == 25 * (data.rows or 0)  # 100 bytes of text, 4 of them a token


def test_slices_of_several_splits_have_no_known_rows(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows_of(tmp_path / f"{name}.jsonl", 10)
    assert estimate(DatasetEntry(path=str(tmp_path), split="train[:5]+test")).rows is None
    assert estimate(DatasetEntry(path=str(tmp_path), split="train+test")).rows == 20
