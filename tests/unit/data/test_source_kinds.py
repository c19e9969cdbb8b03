"""Every kind of file, packed or not: the same rows, the same counts, and faults under the file's own name."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axo.data.readers import READERS, count_rows, read_file
from axo.data.source import read_rows, source_files, source_identity
from axo.errors import DataError
from axo.recipe.data import DatasetEntry

ROWS = [{"text": f"row {number}, a “quoted” text\nof two lines", "n": str(number)} for number in range(2300)]


def of_lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def of_list(rows: list[Any]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def of_table(rows: list[Any], separator: str) -> bytes:
    quoted = [[f'"{value}"' for value in row.values()] for row in rows]
    return "".join(separator.join(record) + "\n" for record in [["text", "n"], *quoted]).encode()


def of_parquet(rows: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=700)
    return sink.getvalue()


def of_arrow(rows: list[Any], make: Callable[..., Any], size: int) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=size)
    return sink.getvalue()


KINDS: dict[str, tuple[str, Callable[[list[Any]], bytes]]] = {
    "lines": (".jsonl", of_lines),
    "list": (".json", of_list),
    "csv": (".csv", lambda rows: of_table(rows, ",")),
    "tsv": (".tsv", lambda rows: of_table(rows, "\t")),
    "parquet": (".parquet", of_parquet),
    "arrow file": (".arrow", lambda rows: of_arrow(rows, pa.ipc.new_file, 999)),
    "arrow stream": (".arrow", lambda rows: of_arrow(rows, pa.ipc.new_stream, 10_000)),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_gives_the_rows_that_were_written(name: str, packed: str, tmp_path: Path) -> None:
    suffix, write = KINDS[name]
    path = tmp_path / f"rows{suffix}{packed}"
    path.write_bytes(PACKED[packed](write(ROWS)))
    rows = list(read_rows(DatasetEntry(path=str(path))))
    assert [row.values for row in rows] == ROWS
    assert {row.file for row in rows} == {str(path)}
    assert count_rows(path, suffix + packed) == len(ROWS)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_kept_are_those_rows_with_their_lines(name: str, tmp_path: Path) -> None:
    suffix, write = KINDS[name]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(write(ROWS))
    every = list(read_file(path, suffix))
    for wanted in (set(), {0}, {2299}, {699, 700}, set(range(1400, 2100)), set(range(0, 2300, 3)), set(range(5, 2300))):
        flags = [int(number in wanted) for number in range(len(ROWS))]
        assert list(read_file(path, suffix, iter(flags))) == [
            row for row, flag in zip(every, flags, strict=True) if flag
        ]
    assert list(read_file(path, suffix, chain(repeat(0, 2290), repeat(1, 5)))) == every[2290:2295]


def test_texts_are_rows_whatever_packs_them(tmp_path: Path) -> None:
    for packed, pack in PACKED.items():
        path = tmp_path / f"rows.txt{packed}"
        path.write_bytes(pack("one\n\n  zwei ü\n".encode()))
        assert [(row.values["text"], row.line) for row in read_rows(DatasetEntry(path=str(path)))] == [
            ("one", 1), ("  zwei ü", 3),
        ]  # fmt: skip


def test_several_packed_parts_after_each_other_are_all_read(tmp_path: Path) -> None:
    for packed in (".gz", ".zst"):
        path = tmp_path / f"rows.jsonl{packed}"
        path.write_bytes(b"".join(PACKED[packed](of_lines(ROWS[at : at + 500])) for at in range(0, 2300, 500)))
        assert [row.values for row in read_rows(DatasetEntry(path=str(path)))] == ROWS


@pytest.mark.parametrize("ds_type", ["json", "csv", "parquet", "arrow", "text"])
@pytest.mark.parametrize("packed", PACKED)
def test_ds_type_names_the_kind_where_the_name_does_not(ds_type: str, packed: str, tmp_path: Path) -> None:
    write = {
        "json": of_lines, "csv": KINDS["csv"][1], "parquet": of_parquet, "arrow": KINDS["arrow file"][1],
        "text": lambda rows: "\n".join(row["n"] for row in rows).encode(),
    }[ds_type]  # fmt: skip
    path = tmp_path / f"rows.data{packed}"
    path.write_bytes(PACKED[packed](write(ROWS)))
    rows = [row.values for row in read_rows(DatasetEntry(path=str(path), ds_type=ds_type))]
    assert rows == ([{"text": row["n"]} for row in ROWS] if ds_type == "text" else ROWS)


WRONG = {
    # what is wrong: (name, content, place, words)
    "gzip by its name alone": ("a.jsonl.gz", of_lines(ROWS[:2]), "", "expected a gzip file, found something else"),
    "an empty gzip file": ("a.jsonl.gz", b"", "", "expected a gzip file, found an empty file"),
    "gzip called zst": ("a.jsonl.zst", gzip.compress(b"{}"), "", "expected a Zstandard file, found a gzip file"),
    "Parquet called gz": ("a.parquet.gz", of_parquet(ROWS[:2]), "", "expected a gzip file, found a Parquet file"),
    "zstd without its ending": ("a.csv", PACKED[".zst"](b"a\n1\n"), "", "ends in .zst"),
    "gzip without its ending": ("a.txt", gzip.compress(b"a\n1\n"), "", "ends in .gz"),
    "gzip cut off": ("a.jsonl.gz", gzip.compress(of_lines(ROWS))[:-40], "", "damaged or cut off"),
    "gzip with a changed sum": ("a.jsonl.gz", gzip.compress(of_lines(ROWS))[:-8] + b"\0" * 8, "", "damaged or cut off"),
    "zstd cut off": ("a.jsonl.zst", PACKED[".zst"](of_lines(ROWS))[:-40], "", "damaged or cut off"),
    "zstd of noise": ("a.jsonl.zst", PACKED[".zst"](of_lines(ROWS))[:30] + b"\7" * 99, "", "damaged or cut off"),
    "broken JSON inside": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": }\n'), ":2:7", "expected a value, found '}'"),
    "no UTF-8 inside": ("a.txt.zst", PACKED[".zst"](b"one\ntwo \xff\n"), ":2:5", "byte 0xff"),
    "packed twice": ("a.jsonl.gz", gzip.compress(gzip.compress(b'{"a": 1}')), "", "found a gzip file"),
    "no Arrow": ("a.arrow", of_lines(ROWS[:3]), "", "no whole Arrow file"),
    "an Arrow file cut off": ("a.arrow", KINDS["arrow file"][1](ROWS)[:-50], "", "no whole Arrow file"),
    "an Arrow stream without end": ("a.arrow", KINDS["arrow stream"][1](ROWS)[:-8], "", "the mark of its end"),
    "an empty Arrow file": ("a.arrow", b"", "", "no whole Arrow file"),
    "a packed file without rows": ("a.jsonl.gz", gzip.compress(b""), "", "the file has no rows"),
    "a packed file of an unknown kind": ("a.xlsx.gz", gzip.compress(b""), "", "unknown kind of file '.xlsx'"),
    "packed and no kind": ("a.gz", gzip.compress(b""), "", "unknown kind of file 'a.gz'"),
    "a kind that only its packing has": ("rows.gz.jsonl", b"{", ":1:2", "broken JSON"),
    "a TSV with a short row": ("a.tsv", b"a\tb\n1\n", ":2", "a text that holds tabs"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_packed_or_arrow_file_that_is_wrong_is_refused_under_its_own_name(name: str, tmp_path: Path) -> None:
    file, content, place, says = WRONG[name]
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        list(read_rows(DatasetEntry(path=str(path))))
    assert refused.value.message.startswith(f"{path}{place}: ")
    assert says in str(refused.value)
    assert refused.value.hint


def test_an_arrow_stream_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = of_arrow(ROWS, pa.ipc.new_stream, 100)
    path = tmp_path / "rows.arrow"
    for end in range(0, len(whole), 997):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="no whole Arrow file"):
            list(read_file(path, ".arrow"))


def texts(path: Path | str, **keys: Any) -> list[Any]:
    return [row.values["text"] for row in read_rows(DatasetEntry(path=str(path), **keys))]


def test_a_pattern_gives_its_files_in_the_order_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jsonl", "a.jsonl", "a.csv", "deep/er/c.jsonl.gz"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"text\n{name}\n".encode() if name.endswith("csv") else of_lines([{"text": name}])
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    monkeypatch.chdir(tmp_path)
    assert texts("data/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert texts("data/a.*") == ["a.csv", "a.jsonl"]
    assert texts("data/**/*.jsonl*") == ["a.jsonl", "b.jsonl", "deep/er/c.jsonl.gz"]
    assert texts(tmp_path / "data" / "[ab].jsonl") == ["a.jsonl", "b.jsonl"]
    assert source_files(DatasetEntry(path="data/*.jsonl")) == [Path("data/a.jsonl"), Path("data/b.jsonl")]
    # A file that is really called so is that file.
    (tmp_path / "data" / "x[1].jsonl").write_bytes(of_lines([{"text": "itself"}]))
    assert texts("data/x[1].jsonl") == ["itself"]


def test_packed_files_of_one_kind_are_one_kind(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(of_lines([{"text": "a"}]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(of_lines([{"text": "b"}])))
    (tmp_path / "c.jsonl.zst").write_bytes(PACKED[".zst"](of_lines([{"text": "c"}])))
    (tmp_path / "notes.gz").write_bytes(b"")
    assert texts(tmp_path) == ["a", "b", "c"]


def test_data_files_may_be_named_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Axolotl passes them to `datasets`; what lies in the folder goes first."""
    (tmp_path / "set").mkdir()
    for name in ("set/a.jsonl", "set/b.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(of_lines([{"text": name}]))
    monkeypatch.chdir(tmp_path)
    assert texts("set", data_files=["set/a.jsonl", "b.jsonl"]) == ["set/a.jsonl", "set/b.jsonl"]
    assert texts("set", data_files=str(tmp_path / "set" / "b.jsonl")) == ["set/b.jsonl"]


def test_an_address_of_a_file_here_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "my rows.jsonl"
    path.write_bytes(of_lines([{"text": "a"}]))
    assert texts(path.as_uri()) == ["a"]
    assert source_identity(DatasetEntry(path=path.as_uri())) == [("file", path)]


# Folders that `save_to_disk` wrote


def test_a_saved_data_set_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(ROWS).select(range(0, 2300, 2))
    saved.save_to_disk(str(tmp_path / "set"), num_shards=3)
    theirs = list(datasets.load_from_disk(str(tmp_path / "set")))
    entry = DatasetEntry(path=str(tmp_path / "set"))
    assert [row.values for row in read_rows(entry)] == theirs == ROWS[::2]
    assert len(source_files(entry)) == 3
    assert texts(tmp_path / "set", split="train[-10:]") == [row["text"] for row in theirs[-10:]]


def test_splits_of_a_saved_data_set_are_chosen_by_name(tmp_path: Path) -> None:
    splits = {"train": datasets.Dataset.from_list(ROWS[:10]), "test_easy": datasets.Dataset.from_list(ROWS[10:15])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path))
    assert texts(tmp_path) == [row["text"] for row in ROWS[:10]]
    assert texts(tmp_path, split="test_easy[:2]+train[:1]") == [ROWS[number]["text"] for number in (10, 11, 0)]
    with pytest.raises(DataError, match=r"no split 'test' was saved") as refused:
        texts(tmp_path, split="test")
    assert "train, test_easy" in str(refused.value.hint)


def test_a_saved_split_is_no_other_split(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS[:3], split=datasets.Split.VALIDATION).save_to_disk(str(tmp_path))
    assert texts(tmp_path) == texts(tmp_path, split="validation") == [row["text"] for row in ROWS[:3]]
    with pytest.raises(DataError, match=r"it was saved as 'validation'|no split 'test'"):
        texts(tmp_path, split="test")


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a file is missing": (lambda folder: next(folder.glob("*.arrow")).unlink(), "1 of 2 files are missing: data-0000"),
    "no description": (lambda folder: (folder / "state.json").write_text("{"), "broken JSON"),
    "a list": (lambda folder: (folder / "state.json").write_text("[]"), "expected an object"),
    "no files": (lambda folder: (folder / "state.json").write_text("{}"), "expected the list that `datasets` writes"),
    "files of another kind": (
        lambda folder: (folder / "state.json").write_text('{"_data_files": [{"filename": 1}]}'), "expected the list",
    ),
    "a file cut off": (
        lambda folder: next(folder.glob("*.arrow")).write_bytes(next(folder.glob("*.arrow")).read_bytes()[:-30]),
        "no whole Arrow file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_saved_data_set_that_is_not_whole_is_refused(name: str, tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path), num_shards=2)
    spoil, says = SPOILT[name]
    spoil(tmp_path)
    with pytest.raises(DataError) as refused:
        texts(tmp_path)
    assert says in refused.value.message
    assert str(tmp_path) in refused.value.message
    assert refused.value.hint


def test_every_reader_counts_what_it_reads(tmp_path: Path) -> None:
    """Blank lines, byte order marks, quoted line breaks."""
    contents = {
        ".jsonl": b'\xef\xbb\xbf\n{"a": 1}\n\n  \r\n{"a": 2}', ".json": b'\n[{"a": 1},\n\n{"a": 2}]\n',
        ".csv": b'\xef\xbb\xbfa,b\n\n"1\n\n2",3\n4,5', ".tsv": b'a\tb\n"1\n\n2"\t3\n4\t5\n', ".txt": b"\n one\n\t\ntwo",
    }  # fmt: skip
    assert set(contents) == set(READERS) - {".parquet", ".arrow"}
    for suffix, content in contents.items():
        path = tmp_path / f"rows{suffix}"
        path.write_bytes(content)
        assert count_rows(path, suffix) == len(list(read_file(path, suffix))) == 2
        path.write_bytes(b"")
        assert count_rows(path, suffix) == len(list(read_file(path, suffix))) == 0
