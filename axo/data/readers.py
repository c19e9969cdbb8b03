"""One reader for each kind of file: path -> rows, streaming, every fault with its file and line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from axo.data.content import first_text_byte, read_lines, read_text, readable
from axo.data.json_text import JsonFault, decode, decode_at, found_at, skip_space
from axo.data.rows import Row, describe
from axo.errors import DataError

_ONE_LINE = "each row must be a whole JSON object on one line"
_ONE_ITEM = "each row must be a whole JSON object; commas stand between them and ] at the end"
_LONGEST_CSV_FIELD = 1 << 30
"""Characters; Python's own limit of 131072 is shorter than many a document."""


def read_json(path: Path) -> Iterator[Row]:
    """One JSON object on each line, where blank lines are skipped; or one JSON list of objects, however laid out."""
    if first_text_byte(path) == b"[":
        yield from _list_items(read_text(path), path)
        return
    for number, line in read_lines(path):
        if not _blank(line):
            yield Row(_line_object(line, path, number), str(path), number)


def read_csv(path: Path) -> Iterator[Row]:
    """Comma-separated values with a header; every value is text."""
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    records = _csv_records(path)
    first = next(records, None)
    if first is None:
        return
    line, header = first
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        message, hint = "this column stands twice in the header", "give each column a name of its own"
        raise DataError(message, hint, file=str(path), line=line, field=twice)
    for line, record in records:
        if len(record) != len(header):
            raise DataError(
                f"the header has {len(header)} columns ({', '.join(header)}), this row has {len(record)}",
                "a text that holds commas, quotes or line breaks must stand in double quotes",
                file=str(path),
                line=line,
            )
        yield Row(dict(zip(header, record, strict=True)), str(path), line)


def read_txt(path: Path) -> Iterator[Row]:
    """Each line that is not blank is a row with the one field `text`."""
    for number, line in read_lines(path):
        if not _blank(line):
            yield Row({"text": line.rstrip("\r\n")}, str(path), number)


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, a thousand at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with readable(path), path.open("rb"):
        pass  # pyarrow says less of a file that may not be read
    number = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=1000):
                for values in _values(batch, path, number):
                    number += 1
                    yield Row(values, str(path), number)
    except (pa.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        said = str(error).strip().split("\n")[0].rstrip(".")
        raise DataError(
            f"this is no whole Parquet file: it cannot be read{after}: {said}",
            "copy or write the file again; set ds_type where it is of another kind",
            file=str(path),
        ) from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": read_json,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".txt": read_txt,
}
"""By the end of a file's name."""


def _blank(line: str) -> bool:
    """Nothing but ASCII white space: other white space may be a row of text."""
    return not line.strip(" \t\n\r\v\f")


def _line_object(line: str, path: Path, number: int) -> dict[str, Any]:
    content = line.rstrip("\r\n")
    try:
        values = decode(content)
    except JsonFault as fault:
        if number == 1 and fault.position is not None and fault.position >= len(content.rstrip()):
            _refuse_one_object(path)
        raise _broken(fault, content, path, number, _ONE_LINE) from None
    return _object(values, path, number)


def _refuse_one_object(path: Path) -> None:
    """A file that is a single object, laid out over several lines, has no broken JSON but no rows either."""
    try:
        value = decode(read_text(path))
    except (JsonFault, DataError):
        return
    if isinstance(value, dict):
        keys = ", ".join(map(repr, list(value)[:5]))
        message = f"expected rows, found one object over several lines, with the keys {keys}"
        hint = "write the rows as a list, [{...}, {...}], or each on a line of its own"
        raise DataError(message, hint, file=str(path), line=1)


def _list_items(content: str, path: Path) -> Iterator[Row]:
    """The objects of a JSON list, decoded one at a time so that each knows its line."""
    position, line, counted = content.index("[") + 1, 1, 0
    position = skip_space(content, position)
    while content[position : position + 1] != "]":
        line, counted = line + content.count("\n", counted, position), position
        try:
            values, end = decode_at(content, position)
            yield Row(_object(values, path, line), str(path), line)
            position = _after_item(content, end)
        except JsonFault as fault:
            raise _broken(fault, content, path, line, _ONE_ITEM) from None
    rest = skip_space(content, position + 1)
    if rest < len(content):
        fault = JsonFault(f"nothing may follow the list, found {found_at(content, rest)}", rest)
        raise _broken(fault, content, path, line, "one list holds all rows of a file")


def _after_item(content: str, end: int) -> int:
    position = skip_space(content, end)
    mark = content[position : position + 1]
    if mark == "]":
        return position
    if mark != ",":
        raise JsonFault(f"expected ',' or ']' after a row, found {found_at(content, position)}", position)
    following = skip_space(content, position + 1)
    if content[following : following + 1] == "]":
        raise JsonFault("no ',' may stand before ']'", position)
    return following


def _object(values: Any, path: Path, line: int) -> dict[str, Any]:
    if not isinstance(values, dict):
        message = f"expected an object {{...}}, found {describe(values)}"
        raise DataError(message, "each row names its fields: {...}", file=str(path), line=line)
    return values


def _broken(fault: JsonFault, content: str, path: Path, line: int, hint: str) -> DataError:
    """The fault at its own place; `content` begins at `line` where it is one line, else at line 1."""
    if fault.position is None:
        return DataError(fault.message, fault.hint, file=str(path), line=line, field=fault.key)
    if "\n" in content:
        line = content.count("\n", 0, fault.position) + 1
    column = fault.position - content.rfind("\n", 0, fault.position)
    return DataError(f"broken JSON: {fault.message}", hint, file=str(path), line=line, column=column)


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line where each record begins, and its values; blank lines are no records."""
    begins: list[int] = []
    reader = csv.reader(_noting(read_lines(path), begins), strict=True)
    while True:
        begins.clear()
        try:
            record = next(reader, None)
        except csv.Error as error:
            unclosed = "unexpected end of data" in str(error)
            said = "a quote that opens in this row is never closed" if unclosed else str(error)
            hint = 'a quote inside a text is written twice: "say ""hi"""'
            line = begins[0] if unclosed else begins[-1]
            raise DataError(f"broken CSV: {said}", hint, file=str(path), line=line) from None
        if record is None:
            return
        if record:
            yield begins[0], record


def _noting(lines: Iterator[tuple[int, str]], numbers: list[int]) -> Iterator[str]:
    for number, line in lines:
        numbers.append(number)
        yield line


def _values(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    """The rows of a batch. DataError at the first one that cannot be read, such as a text that is not UTF-8."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        pass
    for number in range(len(batch)):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column[number].as_py()
            except (ValueError, OverflowError) as error:
                raise DataError(
                    f"this value cannot be read: {error}",
                    "write the file again",
                    file=str(path),
                    line=before + number + 1,
                    field=name,
                ) from None
    raise AssertionError("each value can be read alone")
