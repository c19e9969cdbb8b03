"""One row of a data set and the checked reading of its fields: each fault names file, line and field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from axo.data.json_text import JsonFault, decode
from axo.errors import DataError
from axo.registry.registry import did_you_mean


class Row(NamedTuple):
    values: dict[str, Any]
    file: str
    line: int
    """1-based: the line where the row begins, or its number where a file has no lines."""

    def error(self, message: str, hint: str | None = None, *, field: str | None = None) -> DataError:
        """A DataError that points at this row."""
        return DataError(message, hint, file=self.file, line=self.line, field=field)


def text(row: Row, field: str) -> str:
    """The text in `field`. DataError where it is missing, null or not text."""
    value = required(row, field)
    if not isinstance(value, str):
        raise row.error(f"expected text, found {describe(value)}", "write it as one text in quotes", field=field)
    return value


def optional_text(row: Row, field: str | None) -> str:
    """The text in `field`, or "" where the row has none. DataError where it is not text."""
    value = None if field is None else row.values.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        hint = "write it as one text in quotes, or leave it out"
        raise row.error(f"expected text, found {describe(value)}", hint, field=field)
    return value


def required(row: Row, field: str) -> Any:
    """The value of `field`. DataError where it is missing or null."""
    if field not in row.values:
        raise row.error("this field is missing", _present(field, row.values), field=field)
    value = row.values[field]
    if value is None:
        raise row.error("expected a value, found null", "give it a value, or remove the row", field=field)
    return value


def decoded(row: Row, value: Any, *, field: str) -> Any:
    """`value`, or what it says where it is JSON in a string. DataError where that JSON is broken."""
    if not isinstance(value, str):
        return value
    try:
        return decode(value)
    except JsonFault as fault:
        place = "" if fault.position is None else f" at character {fault.position + 1}"
        key = "" if fault.key is None else f" ({fault.key!r})"
        message = f"expected JSON in this text{place}: {fault.message}{key}"
        raise row.error(message, "write it as a list or object, or as JSON in a text", field=field) from None


def describe(value: Any) -> str:
    """What kind of JSON value this is, in words."""
    if isinstance(value, str | bytes):
        kind = "text" if isinstance(value, str) else "bytes"
        return f"{kind} {value[:40]!r}{'...' if len(value) > 40 else ''}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return f"the number {_shortened(str(value))}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else type(value).__name__


_NAMES_SHOWN = 20


def _present(field: str, names: Iterable[str]) -> str:
    names = [str(name) for name in names]
    if len(names) == 1 and field in re.split(r"[;|\t]", names[0]):
        return f"the row has one column, {_shortened(names[0])!r}: columns of a CSV are separated by commas"
    near = did_you_mean(field, names)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    there = f"the row has {', '.join(map(_shortened, names[:_NAMES_SHOWN])) or 'no field'}{more}"
    return f"{there}; {near}" if near else there


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."
