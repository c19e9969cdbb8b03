"""Rows that are equal in every column are kept once, and no evaluation row is a training row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from axo.data.dedup import RowFilter, row_hash
from axo.data.prepare import prepare
from axo.data.rows import Row
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection


def row(values: dict[str, Any]) -> Row:
    return Row(values, "rows.jsonl", 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [1, {"c": "x"}]}, {"b": [1, {"c": "x"}], "a": 1}),
        ({"a": "ä"}, {"a": "\u00e4"}),
        ({"a": "x", "b": None}, {"a": "x"}),
        ({"a": date(2020, 1, 2)}, {"a": date(2020, 1, 2)}),
    ],
)
def test_equal_rows_have_one_hash(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert row_hash(row(one)) == row_hash(row(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "1"}, {"a": 1}),
        ({"a": "x"}, {"b": "x"}),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}),
        ({"a": {"b": None}}, {"a": {}}),
        ({"a": "x "}, {"a": "x"}),
        ({"a": b"x"}, {"a": "bytes b'x'2"}),
        ({"a": True}, {"a": "true"}),
    ],
)
def test_rows_that_differ_anywhere_do_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert row_hash(row(one)) != row_hash(row(other))


def test_a_filter_goes_on_from_the_rows_of_another_store(tmp_path: Path) -> None:
    first = RowFilter()
    assert [first.is_new(row({"a": value})) for value in (1, 2, 1)] == [True, True, False]
    first.save(tmp_path)
    second = RowFilter(tmp_path)
    assert [second.is_new(row({"a": value})) for value in (2, 3, 3)] == [False, True, False]


def example(number: int) -> dict[str, str]:
    return {"instruction": f"Add {number} and 1.", "output": f"It is {number + 1}."}


def test_duplicates_are_counted_with_their_tokens_and_kept_once(prepare_rows: Callable[..., Any]) -> None:
    unique = [example(number) for number in (1, 2, 3)]
    twice = [unique[0], unique[1], unique[0], unique[2], unique[1], unique[0]]
    (plain,) = prepare_rows(unique, type="alpaca").reports
    (all_of_it,) = prepare_rows(twice, type="alpaca").reports
    (report,) = prepare_rows(twice, type="alpaca", dataset_exact_deduplication=True).reports
    assert (report.rows, report.samples, report.samples_dropped_duplicate) == (6, 3, 3)
    assert report.tokens_kept == plain.tokens_kept
    assert report.tokens_read == all_of_it.tokens_read == report.tokens_kept + report.tokens_dropped
    assert report.tokens_dropped == report.tokens_dropped_duplicate
    assert (report.tokens_lost, report.share_lost) == (0, 0.0)


def test_equal_rows_of_two_data_sets_are_kept_in_the_first_and_no_evaluation_row_is_a_training_row(
    tmp_path: Path, write_jsonl: Callable[..., Path], tokenizer: Any
) -> None:
    paths = [
        write_jsonl([example(number) for number in numbers], name=name)
        for name, numbers in (("a.jsonl", range(6)), ("b.jsonl", range(4, 9)), ("test.jsonl", [2, 8, 20, 20]))
    ]
    entries = [{"path": str(path), "type": "alpaca"} for path in paths]
    data = DataSection.model_validate(
        {"datasets": entries[:2], "test_datasets": entries[2:], "dataset_exact_deduplication": True}
    )
    keys: dict[str, Any] = {
        "data": data, "tokenizer_section": TokenizerSection(), "tokenizer": tokenizer, "root": tmp_path / "prepared",
    }  # fmt: skip
    train = prepare(data.datasets, **keys)
    assert [(report.samples, report.samples_dropped_duplicate) for report in train.reports] == [(6, 0), (3, 2)]
    assert data.test_datasets is not None
    alone = prepare(data.test_datasets, **keys)
    apart = prepare(data.test_datasets, **keys, apart_from=train)
    assert [(one.reports[0].samples, one.reports[0].samples_dropped_duplicate) for one in (alone, apart)] == [
        (3, 1),
        (1, 3),
    ]
    assert alone.key != apart.key
    assert prepare(data.test_datasets, **keys, apart_from=train).from_cache
