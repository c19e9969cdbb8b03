"""Files of every kind: rows with their lines, and faults with file, line and column."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.reader_json import read_json
from axo.data.reader_tables import read_parquet
from axo.data.readers import READERS, read_csv, read_txt
from axo.errors import DataError

HEAVY = b"1" * 5000
BROKEN = {
    # what is wrong: (ending, content, line:column:field, words)
    "jsonl, broken in the middle": (
        ".jsonl",
        b'{"a": 1}\n{"a": 2,, "b": 3}\n{"a": 3}\n',
        "2:9",
        "a key in double quotes, found ','",
    ),
    "jsonl, no value": (".jsonl", b'{"a": 1}\n{"a": }\n', "2:7", "expected a value, found '}'"),
    "jsonl, no colon": (".jsonl", b'{"a" 1}\n', "1:6", "expected ':', found '1'"),
    "jsonl, quotes of Python": (".jsonl", b"{'a': 1}\n", "1:2", 'a key in double quotes, found "\'"'),
    "jsonl, a text cut off": (".jsonl", b'{"a": 1}\n{"a": "tex', "2:7", "no closing quote before the end"),
    "jsonl, a row cut off": (".jsonl", b'{"a": 1}\n{"a": "text",', "2:14", "a key in double quotes, found the end"),
    "jsonl, a row over lines": (".jsonl", b'{"a": 1}\n{\n"a": 2\n}\n', "2:2", "a key in double quotes, found the end"),
    "jsonl, one object over lines": (
        ".jsonl",
        b'{\n "a": 1,\n "b": 2\n}\n',
        "1",
        "one object over several lines, with the keys 'a', 'b'",
    ),
    "jsonl, two rows on a line": (".jsonl", b'{"a": 1} {"a": 2}\n', "1:10", "nothing more after the value, found '{'"),
    "jsonl, a comma after a row": (
        ".jsonl",
        b'{"a": 1},\n{"a": 2}\n',
        "1:9",
        "nothing more after the value, found ','",
    ),
    "jsonl, a tab in a text": (".jsonl", b'{"a": "\t"}\n', "1:8", "line break or control character"),
    "jsonl, a column after wide letters": (".jsonl", '{"é🙂": x}\n'.encode(), "1:8", "expected a value, found 'x'"),
    "jsonl, a second byte order mark": (".jsonl", '{"a": 1}\n\ufeff{"a": 2}\n'.encode(), "2:1", "the character U+FEFF"),
    "jsonl, a list as row": (".jsonl", b'{"a": 1}\n[1, 2]\n', "2", "expected an object {...}, found a list of 2"),
    "jsonl, null as row": (".jsonl", b"null\n", "1", "found null"),
    "jsonl, nested too deeply": (".jsonl", b'{"a": ' + b"[" * 100_000 + b"\n", "1:1", "nested too deeply"),
    "jsonl, a number too long": (".jsonl", b'{"a": 1}\n{"a": ' + HEAVY + b"}\n", "2:1", "more digits"),
    "jsonl, a key twice": (".jsonl", b'{"a": 1, "b": 1}\n{"a": 1, "b": 1, "a": 2}\n', "2:a", "stands twice"),
    "jsonl, a key twice inside": (".jsonl", b'{"a": [{"b": 1, "b": 2}]}\n', "1:b", "stands twice"),
    "jsonl, not UTF-8": (".jsonl", b'{"a": 1}\n\n{"a": "caf\xe9"}\n', "3:11", "byte 0xe9, number 11 of its line"),
    "jsonl, not UTF-8 after wide letters": (
        ".jsonl",
        b'{"\xc3\xa9": "\xe9"}\n',
        "1:8",
        "byte 0xe9, number 9 of its line",
    ),
    "jsonl, a letter cut in two": (".jsonl", b'{"a": 1}\n{"a": "\xc3', "2:8", "byte 0xc3"),
    "jsonl, NUL": (".jsonl", b'{"a": 1}\n{"a": "\0"}\n', "2:8", "byte 0x00"),
    "jsonl, NULs at the end": (".jsonl", b'{"a": 1}\n' + b"\0" * 99, "2:1", "byte 0x00"),
    "jsonl, half a surrogate pair": (".jsonl", b'{"a": 1}\n{"a": "\\ud83d"}\n', "2:a", "surrogate"),
    "jsonl, half a pair in a key": (".jsonl", b'{"\\uDE00": 1}\n', "1:\ude00", "surrogate"),
    "jsonl, UTF-16": (".jsonl", '{"a": 1}\n'.encode("utf-16"), "", "found text in UTF-16"),
    "jsonl, UTF-16 without a mark": (".jsonl", '{"a": 1}\n'.encode("utf-16-le"), "", "found text in UTF-16"),
    "jsonl, UTF-32": (".jsonl", '{"a": 1}\n'.encode("utf-32"), "", "found text in UTF-32"),
    "jsonl, gzip": (".jsonl", gzip.compress(b'{"a": 1}\n'), "", "found a gzip file"),
    "jsonl, bzip2": (".jsonl", bz2.compress(b'{"a": 1}\n'), "", "found a bzip2 file"),
    "jsonl, xz": (".jsonl", lzma.compress(b'{"a": 1}\n'), "", "found an xz file"),
    "jsonl, a pickle": (".jsonl", pickle.dumps({"a": 1.5}), "", "found a pickle"),
    "json, broken in the middle": (".json", b'[\n {"a": 1},\n {"a": }\n]', "3:8", "expected a value, found '}'"),
    "json, no comma": (".json", b'[\n {"a": 1}\n {"a": 2}\n]', "3:2", "expected ',' or ']' after a row, found '{'"),
    "json, comma at the end": (".json", b'[\n {"a": 1},\n]', "2:10", "no ','"),
    "json, text after the list": (".json", b'[{"a": 1}]\nmore', "2:1", "nothing may follow the list, found 'm'"),
    "json, never closed": (".json", b'[\n {"a": 1}', "2:10", "expected ',' or ']' after a row, found the end"),
    "json, a text cut off": (".json", b'[\n {"a": 1},\n {"a": "te', "3:8", "no closing quote"),
    "json, a line break in a text": (".json", b'[{"a": "x\ny"}]', "1:10", "must be written as \\n"),
    "json, a number as row": (".json", b'[\n {"a": 1},\n 7]', "3", "found the number 7"),
    "json, not UTF-8": (".json", b'[{"a": 1},\n{"a": "\xff"}]', "2:8", "byte 0xff, number 8"),
    "json, nothing but a bracket": (".json", b"[", "1:2", "expected a value, found the end"),
    "json, a key twice": (".json", b'[{"a": 1},\n{"a": 1, "a": 2}]', "2:a", "stands twice"),
    "csv, a column too many": (".csv", b"a,b\n1,2\n1,2,3\n", "3", "the header has 2 columns (a, b), this row has 3"),
    "csv, a column too few": (".csv", b'a,b\n"1\n1",2\n\n1\n', "5", "the header has 2 columns (a, b), this row has 1"),
    "csv, quote never closed": (
        ".csv",
        b'a,b\n1,"2\n3,4\n5,6\n',
        "2",
        "a quote that opens in this row is never closed",
    ),
    "csv, text after a quote": (".csv", b'a,b\n1,2\n"x"y,3\n', "3", "broken CSV"),
    "csv, a column twice": (".csv", b"a,b,a\n1,2,3\n", "1:a", "twice"),
    "csv, not UTF-8": (".csv", b"a,b\n1,\xe9\n", "2:3", "byte 0xe9"),
    "csv, NUL": (".csv", b"a,b\n1,\0\n", "2:3", "byte 0x00"),
    "csv, a spreadsheet": (".csv", b"PK\x03\x04\x14\x00\x06\x00", "", "a zip archive or a spreadsheet"),
    "txt, not UTF-8": (".txt", b"one\ntwo\n\xfe\n", "3:1", "byte 0xfe"),
    "txt, Parquet": (".txt", b"PAR1\x15\x00\x15", "", "found a Parquet file"),
    "parquet, another kind of file": (".parquet", b"PAR0 no", "", "no whole Parquet file"),
    "parquet, empty": (".parquet", b"", "", "no whole Parquet file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_at_its_place_with_what_to_do(name: str, tmp_path: Path) -> None:
    suffix, content, place, says = BROKEN[name]
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        list(READERS[suffix](path))
    error = refused.value
    known = [str(part) for part in (error.line, error.column, error.field) if part is not None]
    assert (error.file, ":".join(known)) == (str(path), place)
    assert error.message.startswith(":".join([str(path), *known]).replace("\ude00", r"'\ude00'") + ": ")
    assert says in error.message
    assert error.hint


def test_a_parquet_file_is_refused_wherever_it_was_cut_or_changed(tmp_path: Path) -> None:
    """Never with anything but a DataError, and never with a row that was not written."""
    rows = [{"a": f"text {number}", "b": [number]} for number in range(300)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100, write_page_checksum=True)
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(0, len(whole), 97)]
    damaged += [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(0, len(whole), 61)]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert [row.values for row in read_parquet(path)] == rows
        except DataError as error:
            refused += 1
            assert error.hint and str(path) in error.message  # noqa: PT017
    assert refused > len(damaged) / 2


def test_a_parquet_text_that_is_not_utf8_is_named_by_row_and_column(tmp_path: Path) -> None:
    good = pa.array([b"fine"] * 4 + [b"caf\xe9"], type=pa.binary())
    table = pa.table({"a": pa.array([1] * 5), "b": pa.Array.from_buffers(pa.string(), 5, good.buffers())})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError) as refused:
        list(read_parquet(tmp_path / "rows.parquet"))
    assert (refused.value.line, refused.value.field) == (5, "b")
    assert "0xe9" in refused.value.message


def no_right_to_read(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")


def fails_while_it_is_read(path: Path) -> None:
    """A file that can be opened and whose disk then fails, as far as a reader can tell."""
    path.unlink()
    path.symlink_to("/proc/self/mem")
    try:
        path.read_bytes()
    except OSError:
        return
    pytest.skip("this system has no file that fails while it is read")


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("damage", [no_right_to_read, fails_while_it_is_read])
def test_a_file_that_cannot_be_read_is_named(suffix: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"a,b\n")
    damage(path)
    with pytest.raises(DataError, match="cannot be read") as refused:
        list(READERS[suffix](path))
    assert refused.value.file == str(path)
    assert refused.value.hint


ROWS = [{"a": "one", "b": {"c": [1, None]}}, {"a": "two\n🙂", "b": None}]


def test_json_lines_keep_their_line_numbers_over_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + json.dumps(ROWS[0]) + "\n\n   \r\n" + json.dumps(ROWS[1]), encoding="utf-8")
    assert [(row.values, row.line) for row in read_json(path)] == [(ROWS[0], 1), (ROWS[1], 4)]


def test_lines_that_hold_a_list_are_read_as_the_list_that_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff\n" + json.dumps(ROWS, indent=1), encoding="utf-8")
    assert [row.values for row in READERS[".jsonl"](path)] == ROWS


def test_a_key_that_stands_twice_with_one_value_says_one_thing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": [1], "a": [1]}\n')
    assert [row.values for row in read_json(path)] == [{"a": [1]}]


def test_csv_values_may_be_long_documents(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\n" + "word " * 100_000 + "\n")
    assert [len(row.values["text"]) for row in read_csv(path)] == [500_000]


def test_rows_of_mixed_types_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": "1"}, {"a": [1, "1"]}, {"b": 1.5}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [row.values for row in read_json(path)] == rows


def test_a_json_list_is_read_with_the_line_of_each_object(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS, indent=2, ensure_ascii=False), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = list(read_json(path))
    assert [row.values for row in rows] == ROWS
    assert [lines[row.line - 1] for row in rows] == ["  {", "  {"]


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    assert [(row.values, row.line) for row in read_json(path)] == [(ROWS[0], 1), (ROWS[1], 2)]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab[]{},"\\ ', max_size=3), inner, max_size=3),
    max_leaves=6,
)
JSON_ROWS = st.lists(st.dictionaries(st.text("abc", max_size=2), JSON_VALUES, max_size=3), max_size=4)


@settings(max_examples=60, deadline=None)
@given(rows=JSON_ROWS, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_a_json_list_gives_what_json_load_gives(
    tmp_path_factory: pytest.TempPathFactory, rows: list, indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert [row.values for row in read_json(path)] == rows


def test_csv_values_are_text_and_quoted_line_breaks_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes('\ufeffquestion,answer\n"a, b",7\n"two\nlines",\n\nlast,"say ""hi"""\n'.encode())
    assert [(row.values, row.line) for row in read_csv(path)] == [
        ({"question": "a, b", "answer": "7"}, 2),
        ({"question": "two\nlines", "answer": ""}, 3),
        ({"question": "last", "answer": 'say "hi"'}, 6),
    ]


def test_each_line_of_a_text_file_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes(b"one \r\n\n  two\n")
    assert [(row.values, row.line) for row in read_txt(path)] == [({"text": "one "}, 1), ({"text": "  two"}, 3)]


def test_parquet_rows_are_numbered_over_its_batches(tmp_path: Path) -> None:
    rows = [{"a": f"text {number}", "b": [number]} for number in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=700)
    read = list(read_parquet(tmp_path / "rows.parquet"))
    assert [row.values for row in read] == rows
    assert [row.line for row in read] == list(range(1, 2501))
