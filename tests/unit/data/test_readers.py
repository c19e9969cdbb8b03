"""Files of every kind: rows with their lines, and faults with file, line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.data.readers import READERS, read_csv, read_json, read_jsonl, read_parquet, read_txt
from axo.errors import DataError

BROKEN = {
    "jsonl, broken in the middle": (".jsonl", b'{"a": 1}\n{"a": 2,, "b": 3}\n{"a": 3}\n', 2, "column 9"),
    "jsonl, a row cut off": (".jsonl", b'{"a": 1}\n{"a": "tex', 2, "column 7"),
    "jsonl, a list as row": (".jsonl", b'{"a": 1}\n[1, 2]\n', 2, "expected an object {...}, found a list of 2"),
    "jsonl, null as row": (".jsonl", b"null\n", 1, "found null"),
    "jsonl, not UTF-8": (".jsonl", b'{"a": 1}\n\n{"a": "caf\xe9"}\n', 3, "byte 0xe9 at column 11"),
    "jsonl, half a surrogate pair": (".jsonl", b'{"a": 1}\n{"a": "\\ud83d"}\n', 2, "surrogate"),
    "json, broken in the middle": (".json", b'[\n {"a": 1},\n {"a": }\n]', 3, "column 8"),
    "json, no comma": (".json", b'[\n {"a": 1}\n {"a": 2}\n]', 3, "column 2: expected ','"),
    "json, comma at the end": (".json", b'[\n {"a": 1},\n]', 2, "column 10: no ','"),
    "json, text after the list": (".json", b'[{"a": 1}]\nmore', 2, "nothing may follow"),
    "json, never closed": (".json", b'[\n {"a": 1}', 2, "expected ',' or ']'"),
    "json, a number as row": (".json", b'[\n {"a": 1},\n 7]', 3, "found the number 7"),
    "json, not UTF-8": (".json", b'[{"a": 1},\n{"a": "\xff"}]', 2, "byte 0xff at column 8"),
    "csv, a column too many": (".csv", b"a,b\n1,2\n1,2,3\n", 3, "the header has 2 columns, this row has 3"),
    "csv, quote never closed": (".csv", b'a,b\n1,"2\n', 2, "broken CSV"),
    "csv, a column twice": (".csv", b"a,a\n1,2\n", 1, "twice"),
    "csv, not UTF-8": (".csv", b"a,b\n1,\xe9\n", 2, "byte 0xe9 at column 3"),
    "txt, not UTF-8": (".txt", b"one\ntwo\n\xfe\n", 3, "byte 0xfe at column 1"),
    "parquet, another kind of file": (".parquet", b"PAR0 no", None, "no readable Parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_at_its_line(name: str, tmp_path: Path) -> None:
    suffix, content, line, says = BROKEN[name]
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        list(READERS[suffix](path))
    assert refused.value.line == line
    assert refused.value.file == str(path)
    assert says in refused.value.message


ROWS = [{"a": "one", "b": {"c": [1, None]}}, {"a": "two\n🙂", "b": None}]


def test_json_lines_keep_their_line_numbers_over_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + json.dumps(ROWS[0]) + "\n\n   \r\n" + json.dumps(ROWS[1]), encoding="utf-8")
    assert [(row.values, row.line) for row in read_jsonl(path)] == [(ROWS[0], 1), (ROWS[1], 4)]


def test_rows_of_mixed_types_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": "1"}, {"a": [1, "1"]}, {"b": 1.5}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [row.values for row in read_jsonl(path)] == rows


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
        ({"question": "last", "answer": 'say "hi"'}, 5),
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
