"""The quickstart's data: made by the shipped script, small, and the held-out days really held out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

FILES = ("quickstart_text.jsonl", "quickstart_train.jsonl", "quickstart_test.jsonl")
LONG = re.compile(r"(\d{1,2}) (January|February|March|April|May|June|July|August|September|October|November|December)")
ISO = re.compile(r"\d{4}-(\d\d)-(\d\d)")

Day = tuple[int, int]
"""Month and day of the month."""


@pytest.fixture(scope="module")
def data(root: Path) -> Path:
    return root / "recipes" / "data"


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def days(text: str) -> set[Day]:
    """Every day of the year that the text names, in either way of writing."""
    long = {(datetime.strptime(month, "%B").month, int(day)) for day, month in LONG.findall(text)}
    return long | {(int(month), int(day)) for month, day in ISO.findall(text)}


def test_the_shipped_script_writes_the_shipped_files(data: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(data / "make_quickstart.py"), str(tmp_path)], check=True)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_small(data: Path, name: str) -> None:
    assert (data / name).stat().st_size < 600_000


def test_no_day_of_the_test_questions_is_in_any_text_that_trains(data: Path) -> None:
    text, train, test = ((data / name).read_text(encoding="utf-8") for name in FILES)
    assert len(days(test)) > 50
    assert len(days(train)) > 250
    assert not days(test) & (days(train) | days(text))


def test_the_text_never_puts_a_date_beside_its_iso_form(data: Path) -> None:
    both = 0
    for row in rows(data / FILES[0]):
        iso = {(int(month), int(day)) for month, day in ISO.findall(row["text"])}
        both += bool(iso)
        assert not iso & days(ISO.sub("", row["text"]))
    assert both > 100


@pytest.mark.parametrize("name", FILES[1:])
def test_every_answer_is_the_iso_form_of_the_date_in_the_question(data: Path, name: str) -> None:
    for row in rows(data / name):
        question, answer = row["messages"]
        (written,) = re.findall(r"\d{1,2} [A-Z][a-z]+ \d{4}", question["content"])
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert answer["content"] == datetime.strptime(written, "%d %B %Y").date().isoformat()


def test_no_question_is_asked_twice(data: Path) -> None:
    asked = [row["messages"][1]["content"] for name in FILES[1:] for row in rows(data / name)]
    assert len(asked) == len(set(asked)) == 3200
