"""Slices of splits, sums, parts after a shuffle, rows skipped: the rows that `datasets` gives of the same file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data import source_selection
from axo.data.rows import Row
from axo.data.source import expanded, read_rows, selection, title
from axo.errors import DataError
from axo.recipe.data import DatasetEntry
from axo.recipe.split import parse_split

NUM_ROWS = 137


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"n": number}) + "\n" * (1 + (number % 7 == 0)) for number in range(NUM_ROWS)))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def read(path: Path | str, *, seed: int = 42, skip: int = 0, **keys: Any) -> list[int]:
    return [row.values["n"] for row in read_rows(entry(path, **keys), seed=seed, skip=skip)]


def entry(path: Path | str, **keys: Any) -> DatasetEntry:
    return DatasetEntry(path=str(path), type="completion", **keys)


def expected(path: Path, split: str, cache: Path) -> datasets.Dataset:
    loaded = datasets.load_dataset("json", data_files=str(path), split=split, cache_dir=str(cache))
    assert isinstance(loaded, datasets.Dataset)
    return loaded


SPLITS = [
    "train", "train[:5%]", "train[95%:]", "train[10%:20%]", "train[-10%:]", "train[:10]", "train[130:]", "train[5:9]",
    "train[-50:]", "train[-5:-2]", "train[:-130]", "train[:500]", "train[-500:3]", "train[:]", "train[:1_0]",
    "train[:50%](pct1_dropremainder)", "train[50%:](pct1_dropremainder)", "train[:1%](closest)",
    "train[:3]+train[-3:]", "train[5:7]+train[:2]", "train[:1%]+train[99%:]", "train+train[:4]",
]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
def test_a_slice_of_a_file_is_the_one_that_datasets_takes(split: str, rows: Path, cache: Path) -> None:
    whole = expected(rows, split, cache)["n"]
    assert read(rows, split=split) == list(whole)


PERCENT = st.integers(-100, 100) | st.none()
ABSOLUTE = st.integers(-300, 300) | st.none()


@settings(max_examples=300, deadline=None)
@given(
    start=PERCENT, stop=PERCENT, num_rows=st.integers(100, 5000), rounding=st.sampled_from(["", "(pct1_dropremainder)"])
)
def test_hundredths_are_rounded_as_datasets_rounds_them(
    start: int | None, stop: int | None, num_rows: int, rounding: str
) -> None:
    bounds = [f"{bound}%" if bound is not None else "" for bound in (start, stop)]
    check_against_datasets(f"train[{':'.join(bounds)}]{rounding if any(bounds) else ''}", num_rows)


@settings(max_examples=200, deadline=None)
@given(start=ABSOLUTE, stop=ABSOLUTE, num_rows=st.integers(0, 250))
def test_numbers_of_rows_are_limited_as_datasets_limits_them(
    start: int | None, stop: int | None, num_rows: int
) -> None:
    bounds = [str(bound) if bound is not None else "" for bound in (start, stop)]
    check_against_datasets(f"train[{':'.join(bounds)}]", num_rows)


def check_against_datasets(spec: str, num_rows: int) -> None:
    (theirs,) = datasets.ReadInstruction.from_spec(spec).to_absolute({"train": num_rows})
    (ours,) = parse_split(spec)
    assert list(ours.rows(num_rows)) == list(range(theirs.from_, theirs.to))


@pytest.mark.parametrize(
    "spec", ["train[", "train[5%]", "train[:5]x", "tr ain", "train[:200%]", "train[:5](closest)", "train[:1%](up)",
             "train[:1%]+train[1%:](pct1_dropremainder)", "train+", "", "train[1.5:]", "train[:_]"],
)  # fmt: skip
def test_what_datasets_refuses_is_refused(spec: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        datasets.ReadInstruction.from_spec(spec)
    with pytest.raises(ValueError, match=r"\w"):
        parse_split(spec)


@pytest.mark.parametrize(
    ("shards", "index", "seed"), [(1, None, 42), (4, None, 42), (4, 1, 7), (10, 9, 0), (137, 5, 3)]
)
def test_a_part_has_the_rows_that_datasets_shuffles_into_it(
    shards: int, index: int | None, seed: int, rows: Path, cache: Path
) -> None:
    theirs = expected(rows, "train", cache).shuffle(seed=seed).shard(shards, index or 0)
    ours = read(rows, shards=shards, shards_idx=index, seed=seed)
    assert ours == list(theirs["n"])


def test_a_part_is_taken_of_what_the_split_selects(rows: Path, cache: Path) -> None:
    split = "train[-40%:]+train[:7]"
    theirs = expected(rows, split, cache).shuffle(seed=5).shard(3, 2)["n"]
    assert read(rows, split=split, shards=3, shards_idx=2, seed=5) == list(theirs)


def test_a_part_is_taken_of_all_files_of_a_folder(tmp_path: Path) -> None:
    for number in range(4):
        lines = (json.dumps({"n": number * 10 + row}) for row in range(10))
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines))
    whole = datasets.Dataset.from_dict({"n": list(range(40))})
    parts = [read(tmp_path, shards=3, shards_idx=index, seed=1) for index in range(3)]
    assert parts == [list(whole.shuffle(seed=1).shard(3, index)["n"]) for index in range(3)]
    assert sorted(chain.from_iterable(parts)) == list(range(40))


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A folder with two files of 60 rows for train and one of 17 for validation, and rows of no use in one of them."""
    for name, first, last in (("train-0", 0, 60), ("train-1", 60, 120), ("validation-0", 120, 137)):
        lines = (json.dumps({"n": number}) for number in range(first, last))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    "split", ["validation+train", "train[55:65]+validation[:3]", "validation[-50%:]+train[:1%]", "train[50%:51%]"]
)
def test_slices_go_over_all_files_of_a_split(split: str, halves: Path, cache: Path) -> None:
    theirs = datasets.load_dataset(str(halves), split=split, cache_dir=str(cache))
    assert read(halves, split=split) == list(theirs["n"])  # type: ignore[index, call-overload]


KEYS = [{}, {"split": "train[-30:]"}, {"split": "train[:3]+validation"}, {"split": "train+validation"},
        {"shards": 4, "shards_idx": 1}]  # fmt: skip


@pytest.mark.parametrize("keys", KEYS)
def test_skipping_leaves_out_exactly_the_first_rows(keys: dict[str, Any], halves: Path) -> None:
    whole = read(halves, **keys)
    for skip in (0, 1, 2, 29, 30, 59, 60, 61, 119, 120, 121, len(whole) - 1, len(whole), len(whole) + 5):
        assert read(halves, skip=skip, **keys) == whole[skip:]


@settings(max_examples=60, deadline=None)
@given(
    bounds=st.tuples(st.integers(-140, 140), st.integers(-140, 140)),
    skip=st.integers(0, 150),
    shards=st.none() | st.integers(1, 9),
)
def test_split_part_and_skip_go_together(bounds: tuple[int, int], skip: int, shards: int | None, rows: Path) -> None:
    start, stop = bounds
    theirs = datasets.Dataset.from_dict({"n": list(range(NUM_ROWS))[start:stop]})
    if len(theirs) == 0:
        return
    if shards is not None:
        theirs = theirs.shuffle(seed=9).shard(shards, 0)
    ours = read(rows, split=f"train[{start}:{stop}]", shards=shards, seed=9, skip=skip)
    assert ours == list(theirs["n"])[skip:]


def test_rows_that_are_passed_over_are_not_decoded(tmp_path: Path) -> None:
    """Their faults stay unseen, for what is not decoded costs next to nothing."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\nbroken\n{"n": 3}\n')
    assert read(path, split="train[2:]") == [3]
    assert read(path, skip=2) == [3]
    with pytest.raises(DataError, match=r"rows.jsonl:2:1"):
        read(path, skip=1)


@pytest.mark.parametrize("split", ["train[:5]", "train[3:]", "train"])
def test_rows_are_counted_only_where_their_number_matters(
    split: str, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(*_: Any) -> int:
        raise AssertionError("counted")

    monkeypatch.setattr(source_selection, "count_rows", count)
    assert len(read(rows, split=split)) == {"train[:5]": 5, "train[3:]": NUM_ROWS - 3, "train": NUM_ROWS}[split]


def test_rows_keep_their_lines_whatever_is_selected(rows: Path) -> None:
    lines = {row.values["n"]: row.line for row in read_rows(entry(rows))}
    text = rows.read_text().split("\n")
    selected: list[Iterator[Row]] = [
        read_rows(entry(rows, split="train[-9:]")),
        read_rows(entry(rows, shards=5)),
        read_rows(entry(rows), skip=130),
    ]
    for some in selected:
        for row in some:
            assert lines[row.values["n"]] == row.line
            assert json.loads(text[row.line - 1]) == row.values


def test_a_list_of_names_is_one_data_set_after_the_other(tmp_path: Path) -> None:
    for number, name in enumerate(("hard", "easy", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("".join(f'{{"n": {number * 10 + row}}}\n' for row in range(3)))
    both = entry(tmp_path, name=["hard", "easy"])
    assert [title(one) for one in expanded(both)] == [f"{tmp_path} (hard)", f"{tmp_path} (easy)"]
    assert read(tmp_path, name=["hard", "easy"]) == [0, 1, 2, 10, 11, 12]
    assert read(tmp_path, name="other") == [20, 21, 22]
    assert [read(tmp_path, name=["hard", "easy"], skip=skip) for skip in (1, 3, 4, 6)] == [
        [1, 2, 10, 11, 12], [10, 11, 12], [11, 12], [],
    ]  # fmt: skip
    with pytest.raises(DataError, match="no configuration 'eazy'") as refused:
        read(tmp_path, name=["hard", "eazy"])
    assert "did you mean 'easy'?" in str(refused.value.hint)


def test_spaces_about_a_sum_are_left_out_for_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_dataset(path: str, *, split: str, **keys: Any) -> datasets.Dataset:
        asked.append(split)
        return datasets.Dataset.from_dict({"n": [1]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("some/data", split="train[:5%] +  test") == [1]
    assert asked == ["train[:5%]+test"]


def test_names_of_a_hub_data_set_are_loaded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, *, name: str, **keys: Any) -> datasets.Dataset:
        return datasets.Dataset.from_dict({"n": [f"{name} {number}" for number in range(5)]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("some/data", name=["a", "b"], skip=3) == ["a 3", "a 4", *(f"b {number}" for number in range(5))]
    theirs = load_dataset("", name="a").shuffle(seed=3).shard(2, 1)
    assert read("some/data", name=["a"], shards=2, shards_idx=1, seed=3) == list(theirs["n"])


def test_what_is_selected_is_said_for_the_cache(rows: Path) -> None:
    """Alike where the rows are, and different where they may not be."""
    assert selection(entry(rows), seed=1) == selection(entry(rows, split="train+train"), seed=2) == []
    said = [
        selection(entry(rows, **keys), seed=seed)
        for keys in ({"split": "train[:5]"}, {"split": "train[:5%]"}, {"split": "train[5:]"}, {"shards": 2},
                     {"shards": 3}, {"shards": 2, "shards_idx": 1}, {"split": "train[:5]", "shards": 2})
        for seed in (1, 2)
    ]  # fmt: skip
    distinct = {json.dumps(one) for one in said}
    assert len(distinct) == 3 + 2 * 4
    assert selection(entry(rows, shards=2), seed=1) == selection(entry(rows, shards=2, shards_idx=0), seed=1)
