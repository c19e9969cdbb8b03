"""Reading a data set to its end past every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axo.data.check import LISTED, Faults, check_set
from axo.data.preparation import make_preparation
from axo.data.report import SetReport
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection

GOOD = {"instruction": "Add.", "output": "It is 5."}


@pytest.fixture
def check(tokenizer: Any, tmp_path: Path) -> Callable[..., tuple[SetReport, Faults]]:
    """Checks a file of these lines."""

    def run(lines: list[Any], *, name: str = "rows.jsonl", **data: Any) -> tuple[SetReport, Faults]:
        path = tmp_path / name
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{text}\n" for text in texts))
        section = DataSection.model_validate({"datasets": [{"path": str(path), "type": "alpaca"}], **data})
        preparation = make_preparation(
            section.datasets[0], data=section, section=TokenizerSection(), tokenizer=tokenizer
        )
        faults = Faults()
        return check_set(preparation, data=section, tokenizer=tokenizer, faults=faults), faults

    return run


def places(faults: Faults) -> list[tuple[int | None, str | None]]:
    return [(error.line, error.field) for error in faults.in_order()]


def test_every_fault_of_a_row_is_found(check: Any) -> None:
    lines = [GOOD, {"instruction": "Hi"}, GOOD, {"output": "Ho"}, {**GOOD, "output": None}, GOOD]
    report, faults = check(lines)
    assert places(faults) == [(2, "output"), (4, "instruction"), (5, "output")]
    assert (report.rows, report.samples) == (3, 3)
    assert faults.unread == []


def test_lines_that_are_no_json_are_passed_over_one_by_one(check: Any) -> None:
    lines = [GOOD, '{"instruction": ', "", GOOD, "[]", '{"instruction": "Hi"}', '"x"', GOOD]
    report, faults = check(lines)
    assert places(faults) == [(2, None), (5, None), (6, "output"), (7, None)]
    assert (report.rows, report.samples) == (3, 3)


def test_a_fault_of_the_whole_file_ends_its_reading(check: Any) -> None:
    _, faults = check(["[", json.dumps(GOOD), ",", '{"broken": ,}', ",", json.dumps(GOOD), "]"], name="rows.json")
    assert places(faults) == [(4, None)]
    assert [place.rpartition("/")[2] for place in faults.unread] == ["rows.json:4"]


def test_a_missing_file_is_one_fault(check: Any, tokenizer: Any, tmp_path: Path) -> None:
    section = DataSection.model_validate({"datasets": [{"path": str(tmp_path / "no.jsonl"), "type": "alpaca"}]})
    preparation = make_preparation(section.datasets[0], data=section, section=TokenizerSection(), tokenizer=tokenizer)
    faults = Faults()
    report = check_set(preparation, data=section, tokenizer=tokenizer, faults=faults)
    assert (report.rows, faults.count, faults.unread) == (0, 1, [])
    assert "there is no such file" in faults.listed[0].message


def test_only_so_many_are_listed_and_all_are_counted(check: Any) -> None:
    report, faults = check([{"instruction": "Hi"}] * (LISTED + 5) + [GOOD])
    assert (len(faults.listed), faults.further, faults.count) == (LISTED, 5, LISTED + 5)
    assert report.rows == 1


def test_a_file_of_broken_lines_is_given_up(check: Any) -> None:
    _, faults = check(["{"] * (LISTED + 5))
    assert places(faults) == [(line, None) for line in range(1, LISTED + 1)]
    assert len(faults.unread) == 1


def test_faults_of_length_and_of_bos_are_found_row_by_row(check: Any) -> None:
    long = {"instruction": "Hi " * 200, "output": "Ho"}
    report, faults = check([long, GOOD, long], sequence_len=100, excess_length_strategy="raise")
    assert places(faults) == [(1, None), (3, None)]
    assert report.rows == 1
    assert report.tokens_read == report.tokens_kept + report.tokens_dropped + report.tokens_truncated


def test_a_set_without_a_trained_token_is_a_fault_where_rows_have_none(check: Any) -> None:
    report, faults = check([GOOD] * 3, sequence_len=8)
    assert faults.count == 1
    assert "no token of this data set would be trained: of its 3 rows, 3 are longer" in faults.listed[0].message
    assert report.rows == 3
    _, faults = check([{"instruction": "Hi"}, GOOD], sequence_len=8)
    assert places(faults) == [(1, "output")]


def test_counts_are_those_of_preparing(check: Any, prepare_rows: Any) -> None:
    rows = [{"instruction": f"Add {number}.", "output": "x " * number} for number in range(40)]
    report, faults = check(rows, sequence_len=80)
    prepared = prepare_rows(rows, type="alpaca", sequence_len=80).reports[0]
    assert faults.count == 0
    assert vars(report) == vars(prepared)
    assert report.samples_dropped_long > 0
