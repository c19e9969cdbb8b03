"""Rows of JSON: an object on each line, or one list of objects, every fault with its line and column."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from typing import Any

from axo.data.content import DataFile, decode_text, filled_lines, first_text_byte, read_text
from axo.data.json_text import JsonFault, decode, decode_at, found_at, skip_space
from axo.data.rows import Row, describe
from axo.errors import DataError

_ONE_LINE = "each row must be a whole JSON object on one line"
_ONE_ITEM = "each row must be a whole JSON object; commas stand between them and ] at the end"


def read_json(path: DataFile, keep: Iterator[int] | None = None) -> Iterator[Row]:
    """One JSON object on each line, where blank lines are skipped; or one JSON list of objects, however laid out."""
    if first_text_byte(path) == b"[":
        rows = _list_items(read_text(path), path)
        yield from rows if keep is None else compress(rows, keep)
        return
    name = str(path)
    lines = filled_lines(path)
    for number, line in lines if keep is None else compress(lines, keep):
        yield Row(_line_object(decode_text(line, path, line=number), path, number), name, number)


def count_json(path: DataFile) -> int:
    """Rows, of which those of a list have to be read."""
    if first_text_byte(path) == b"[":
        return sum(1 for _ in _list_items(read_text(path), path))
    return sum(1 for _ in filled_lines(path))


def _line_object(line: str, path: DataFile, number: int) -> dict[str, Any]:
    content = line.rstrip("\r\n")
    try:
        values = decode(content)
    except JsonFault as fault:
        if number == 1 and fault.position is not None and fault.position >= len(content.rstrip()):
            _refuse_one_object(path)
        raise _broken(fault, content, path, number, _ONE_LINE) from None
    return _object(values, path, number)


def _refuse_one_object(path: DataFile) -> None:
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


def _list_items(content: str, path: DataFile) -> Iterator[Row]:
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


def _object(values: Any, path: DataFile, line: int) -> dict[str, Any]:
    if not isinstance(values, dict):
        message = f"expected an object {{...}}, found {describe(values)}"
        raise DataError(message, "each row names its fields: {...}", file=str(path), line=line)
    return values


def _broken(fault: JsonFault, content: str, path: DataFile, line: int, hint: str) -> DataError:
    """The fault at its own place; `content` begins at `line` where it is one line, else at line 1."""
    if fault.position is None:
        return DataError(fault.message, fault.hint, file=str(path), line=line, field=fault.key)
    if "\n" in content:
        line = content.count("\n", 0, fault.position) + 1
    column = fault.position - content.rfind("\n", 0, fault.position)
    return DataError(f"broken JSON: {fault.message}", hint, file=str(path), line=line, column=column)
