"""Where rows come from: files, folders, splits, hub names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from axo.data.source import read_rows, source_files
from axo.errors import DataError
from axo.recipe.data import DatasetEntry


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of JSON-lines files, each with one row that says its name."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"text": name}) + "\n")
        return tmp_path / "set"

    return make


def read(path: Path | str, **keys: Any) -> list[Any]:
    return [row.values["text"] for row in read_rows(DatasetEntry(path=str(path), type="completion", **keys))]


def test_a_folder_gives_its_files_in_the_order_of_their_names(folder: Callable[..., Path]) -> None:
    assert read(folder("b.jsonl", "a.jsonl", "c/a.jsonl", ".hidden/x.jsonl", "notes.md")) == [
        "a.jsonl", "b.jsonl", "c/a.jsonl",
    ]  # fmt: skip


def test_names_of_files_say_their_split(folder: Callable[..., Path]) -> None:
    path = folder("train-00000.jsonl", "train-00001.jsonl", "data_test.jsonl", "val/x.jsonl", "other.jsonl")
    assert read(path) == ["train-00000.jsonl", "train-00001.jsonl"]
    assert read(path, split="test") == ["data_test.jsonl"]
    assert read(path, split="validation") == ["val/x.jsonl"]


def test_a_word_that_only_contains_a_splits_name_is_no_split(folder: Callable[..., Path]) -> None:
    assert read(folder("constraint.jsonl", "latest.jsonl", "devices.jsonl")) == [
        "constraint.jsonl", "devices.jsonl", "latest.jsonl",
    ]  # fmt: skip


def test_data_files_choose_within_a_folder(folder: Callable[..., Path]) -> None:
    path = folder("a.jsonl", "b.jsonl", "sub/c.jsonl")
    assert read(path, data_files="b.jsonl") == ["b.jsonl"]
    assert read(path, data_files=["sub/*.jsonl", "*.jsonl", "a.jsonl"]) == ["sub/c.jsonl", "a.jsonl", "b.jsonl"]


def test_ds_type_reads_files_whose_names_do_not_tell(tmp_path: Path) -> None:
    (tmp_path / "rows.data").write_text('{"text": "one"}\n')
    assert read(tmp_path / "rows.data", ds_type="json") == ["one"]
    (tmp_path / "rows.dat").write_text("text\none\n")
    assert read(tmp_path / "rows.dat", ds_type="csv") == ["one"]


REFUSED = {
    "a missing file": ("missing.jsonl", {}, "no such file"),
    "a missing file by its ending": ("nowhere/at/all.csv", {}, "no such file"),
    "an unknown kind": ("x.weird", {}, "unknown kind of file '.weird'"),
    "an empty file": ("empty.jsonl", {}, "the file is empty"),
    "a file of blank lines": ("blank.txt", {}, "no rows"),
    "a header alone": ("header.csv", {}, "no rows"),
    "an empty list": ("list.json", {}, "no rows"),
    "a split of a file": ("x.jsonl", {"split": "test"}, "no split 'test'"),
    "a slice of nothing": ("x.jsonl", {"split": "train[1:]"}, "there are no rows in split 'train[1:]'"),
    "a slice that is none": ("x.jsonl", {"split": "train[:"}, "'train[:' is no split"),
    "hundredths of few rows": (
        "x.jsonl",
        {"split": "train[:9%](pct1_dropremainder)"},
        "needs at least 100 rows, found 1",
    ),
    "a part of a file too many": ("x.jsonl", {"shards": 2, "shards_idx": 1}, "there are no rows in part 1 of 2 shards"),
    "a configuration of a file": ("x.jsonl", {"name": "easy"}, "a single file has no configuration 'easy'"),
    "a configuration that is no folder": ("named", {"name": "easy"}, "no configuration 'easy': no folder of that name"),
    "a pattern that matches nothing": ("named/*.csv", {}, "no file matches this pattern"),
    "a pattern with an unknown kind": ("*/readme.*", {}, "unknown kind of file '.md'"),
    "a split of data_files": ("named", {"data_files": "*.jsonl", "split": "test"}, "data_files have no split 'test'"),
    "data_files of a file": ("x.jsonl", {"data_files": "a"}, "a single file has no data_files"),
    "several kinds in a folder": ("mixed", {}, "several kinds of files: 1 .csv, 1 .jsonl"),
    "a folder without data": ("void", {}, "no data file"),
    "a split that no file has": ("named", {"split": "test"}, "no file of split 'test'"),
    "data_files that match nothing": ("named", {"data_files": "z*"}, "no file matches data_files 'z*'"),
    "data_files with an absolute path": ("named", {"data_files": "/x.jsonl"}, "no file matches data_files '/x.jsonl'"),
    "data_files that are no pattern": ("named", {"data_files": "a/**b"}, "no pattern of names below the folder"),
    "a ds_type that no file has": ("named", {"ds_type": "csv"}, "no file of ds_type 'csv'"),
    "a missing folder": ("nowhere/at/all", {}, "no such file or folder"),
    "a missing folder by its slash": ("nowhere/", {}, "no such file or folder"),
    "a missing folder with a space": ("my data", {}, "no such file or folder"),
    "an address": ("ftp://example.org/rows.jsonl", {}, "found an address (ftp://), expected one of s3"),
    "an address without TLS": ("http://example.org/rows.jsonl", {}, "found an address (http://)"),
    "an address with a password": ("https://me:word@example.org/rows.jsonl", {}, "would end up in logs"),
    "a page of the hub": ("https://huggingface.co/datasets/a/b", {}, "of the hub"),
    "a store without its package": ("oci://bucket@space/rows.jsonl", {}, "needs a package that is not installed"),
    "a link to nothing": ("broken", {}, "this links to gone.jsonl, which is not there"),
    "a link to nothing in a folder": ("linked", {}, "this links to gone.jsonl, which is not there"),
    "neither file nor folder": ("pipe", {}, "expected a file or a folder, found neither"),
    "a name that is too long": ("x" * 5000, {}, "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_that_gives_no_rows_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "x.weird": "a", "empty.jsonl": "", "blank.txt": "\n \n", "header.csv": "a,b\n", "list.json": "[]",
        "x.jsonl": '{"text": "a"}', "mixed/a.csv": "text\na", "mixed/b.jsonl": "{}", "void/readme.md": "a",
        "named/train.jsonl": "{}",
    }  # fmt: skip
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    (tmp_path / "linked").mkdir()
    for link in ("broken", "linked/b.jsonl"):
        (tmp_path / link).symlink_to("gone.jsonl")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    path, keys, says = REFUSED[name]
    with pytest.raises(DataError) as refused:
        read(path, **keys)
    assert says in refused.value.message
    assert refused.value.file is not None
    assert refused.value.hint


@pytest.mark.parametrize("path", ["rows.josnl", "sets/rows.jsonl", "./row.jsonl", "a/b/rows.jsonl", "~/no/rows.jsonl"])
def test_what_is_missing_is_told_with_what_is_there(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError) as refused:
        read(path, ds_type="json")
    assert refused.value.file == path
    assert "rows.jsonl, set" in str(refused.value.hint)
    if path in ("rows.josnl", "./row.jsonl"):
        assert "did you mean 'rows.jsonl'?" in str(refused.value.hint)


def test_a_hub_name_is_loaded_by_datasets_with_all_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(path: str, **keys: Any) -> datasets.Dataset:
        asked.append((path, keys))
        return datasets.Dataset.from_list([{"text": f"row {number}"} for number in range(1200)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    keys = {"name": "part", "split": "train[:10%]", "revision": "abc", "data_files": "x.json"}
    entry = DatasetEntry(path="someone/something", type="completion", **keys)
    rows = list(read_rows(entry))
    assert asked == [("someone/something", keys)]
    assert [(row.values["text"], row.line) for row in rows] == [(f"row {n}", n + 1) for n in range(1200)]
    assert source_files(entry) == []


def test_a_hub_that_cannot_be_reached_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **keys: Any) -> datasets.Dataset:
        raise ConnectionError("the hub is not there\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="the hub is not there"):
        read("someone/something")
