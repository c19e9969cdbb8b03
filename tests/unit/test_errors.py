"""Errors that a user can cause: their texts and exit codes."""

from __future__ import annotations

import pytest

from axo import errors
from axo.errors import AxoError, DataError, Finding, RecipeError


def test_exit_codes_are_those_of_the_design() -> None:
    codes = {kind.__name__: kind.exit_code for kind in AxoError.__subclasses__()}
    expected = {
        "RecipeError": 2, "DataError": 3, "HardwareError": 4, "CheckpointError": 5, "TrainingError": 6,
        "LaunchError": 7, "Stopped": 75,
    }  # fmt: skip
    assert {name: code for name, code in codes.items() if hasattr(errors, name)} == expected


def test_a_hint_stands_beneath_the_message() -> None:
    assert str(AxoError("no such thing")) == "no such thing"
    assert str(AxoError("no such thing", "make one")) == "no such thing\n  make one"


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding("seed", "wrong"), "recipe: seed: wrong"),
        (Finding("seed", "wrong", "right it", "a.yaml", 3), "a.yaml:3: seed: wrong\n  right it"),
        (Finding("", "empty", file="a.yaml"), "a.yaml: empty"),
        (Finding("seed", "wrong", file="command line"), "command line: seed: wrong"),
    ],
)
def test_a_finding_says_where_what_and_what_to_do(finding: Finding, text: str) -> None:
    assert str(finding) == text


def test_a_recipe_error_shows_every_finding() -> None:
    findings = [Finding("a", "one", file="r.yaml", line=1), Finding("b", "two", file="r.yaml", line=2)]
    error = RecipeError(findings)
    assert error.findings == tuple(findings)
    assert str(error) == "r.yaml:1: a: one\nr.yaml:2: b: two"


def test_a_data_error_names_file_line_and_field() -> None:
    assert str(DataError("wrong", file="d.jsonl", line=4, field="text")) == "d.jsonl:4:text: wrong"
    assert str(DataError("wrong", "fix it")) == "wrong\n  fix it"


def test_a_field_with_a_line_break_in_its_name_keeps_the_message_on_one_line() -> None:
    error = DataError("is empty", file="a.jsonl", line=3, field="a\nb")
    assert error.message == "a.jsonl:3:'a\\nb': is empty"
