"""One reader for each kind of file: path -> rows, streaming, every fault with its file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from axo.data.rows import Row, describe
from axo.errors import DataError


def read_jsonl(path: Path) -> Iterator[Row]:
    """One JSON object on each line; blank lines are skipped."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            content = _decode(line, path, number).rstrip("\r\n")
            yield Row(_json_object(content, path, number), str(path), number)


def read_json(path: Path) -> Iterator[Row]:
    """One JSON list of objects, however it is laid out; a file that does not begin with `[` is read as JSON lines."""
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.startswith(b"["):
        yield from read_jsonl(path)
        return
    yield from _list_items(_decode_file(path), path)


def read_csv(path: Path) -> Iterator[Row]:
    """Comma-separated values with a header; every value is text."""
    with path.open("rb") as file:
        lines = (_decode(line, path, number) for number, line in enumerate(file, start=1))
        reader = csv.reader(lines, strict=True)
        header = _csv_record(reader, path)
        if header is None:
            return
        if len(set(header)) < len(header):
            raise DataError(f"a column name stands twice in the header: {', '.join(header)}", file=str(path), line=1)
        while True:
            first_line = reader.line_num + 1
            record = _csv_record(reader, path)
            if record is None:
                return
            if len(record) != len(header):
                raise DataError(
                    f"the header has {len(header)} columns, this row has {len(record)}",
                    "a text that holds commas or line breaks must stand in double quotes",
                    file=str(path),
                    line=first_line,
                )
            yield Row(dict(zip(header, record, strict=True)), str(path), first_line)


def read_txt(path: Path) -> Iterator[Row]:
    """Each line that is not blank is a row with the one field `text`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                yield Row({"text": _decode(line, path, number).rstrip("\r\n")}, str(path), number)


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, a thousand at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1000):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, str(path), number)
    except pa.ArrowException as error:
        raise DataError(f"this is no readable Parquet file: {error}", file=str(path)) from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".txt": read_txt,
}
"""By the end of a file's name."""


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        content = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(line, error.start, path, number) from None
    return content.removeprefix("\ufeff") if number == 1 else content


def _decode_file(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _not_utf8(content, error.start, path, content.count(b"\n", 0, error.start) + 1) from None


def _not_utf8(content: bytes, position: int, path: Path, line: int) -> DataError:
    column = position - content.rfind(b"\n", 0, position)
    message = f"not UTF-8: byte 0x{content[position]:02x} at column {column}"
    return DataError(message, "save the file as UTF-8", file=str(path), line=line)


def _json_object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise _broken(error.msg, path, number, error.pos + 1) from None
    except RecursionError:
        raise _broken("nested too deeply", path, number, 1) from None
    return _checked(values, line, path, number)


def _checked(values: Any, source: str, path: Path, number: int) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"expected an object {{...}}, found {describe(values)}", file=str(path), line=number)
    # An escaped half of a surrogate pair is valid JSON but no text: no tokenizer can read it.
    if "\\ud" in source.lower():
        for field, value in values.items():
            try:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:
                raise DataError(
                    "half of a surrogate pair (\\ud800 to \\udfff on its own) is no character",
                    file=str(path),
                    line=number,
                    field=field,
                ) from None
    return values


def _list_items(content: str, path: Path) -> Iterator[Row]:
    """The objects of a JSON list, decoded one at a time so that each knows its line."""
    decoder = json.JSONDecoder()
    position, line, counted = content.index("[") + 1, 1, 0
    while True:
        position = _skip_space(content, position)
        line, counted = line + content.count("\n", counted, position), position
        if content[position : position + 1] == "]":
            break
        try:
            values, end = decoder.raw_decode(content, position)
        except json.JSONDecodeError as error:
            raise _broken(error.msg, path, error.lineno, error.colno) from None
        except RecursionError:
            raise _broken("nested too deeply", path, line, 1) from None
        yield Row(_checked(values, content[position:end], path, line), str(path), line)
        position = _after_item(content, end, path)
    rest = _skip_space(content, position + 1)
    if rest < len(content):
        raise _broken_at(content, rest, "nothing may follow the list", path)


def _after_item(content: str, end: int, path: Path) -> int:
    position = _skip_space(content, end)
    mark = content[position : position + 1]
    if mark == "]":
        return position
    if mark != ",":
        raise _broken_at(content, position, "expected ',' or ']' after an item of the list", path)
    following = _skip_space(content, position + 1)
    if content[following : following + 1] == "]":
        raise _broken_at(content, position, "no ',' may stand before ']'", path)
    return following


def _skip_space(content: str, position: int) -> int:
    while content[position : position + 1] in {" ", "\n", "\r", "\t"}:
        position += 1
    return position


def _broken_at(content: str, position: int, message: str, path: Path) -> DataError:
    line = content.count("\n", 0, position) + 1
    return _broken(message, path, line, position - content.rfind("\n", 0, position))


def _broken(message: str, path: Path, line: int, column: int) -> DataError:
    return DataError(
        f"broken JSON at column {column}: {message}",
        "each row must be a whole JSON object",
        file=str(path),
        line=line,
    )


def _csv_record(reader: Any, path: Path) -> list[str] | None:
    try:
        for record in reader:
            if record:
                return record
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}", file=str(path), line=reader.line_num) from None
    return None
