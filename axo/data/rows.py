"""One row of a data set and the checked reading of its fields: each fault names file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from axo.errors import DataError
from axo.registry.registry import did_you_mean


@dataclass(frozen=True)
class Row:
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
        raise row.error(f"expected text, found {describe(value)}", field=field)
    return value


def optional_text(row: Row, field: str | None) -> str:
    """The text in `field`, or "" where the row has none. DataError where it is not text."""
    value = None if field is None else row.values.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise row.error(f"expected text, found {describe(value)}", field=field)
    return value


def required(row: Row, field: str) -> Any:
    """The value of `field`. DataError where it is missing or null."""
    if field not in row.values:
        raise row.error("this field is missing", _present(field, row.values), field=field)
    value = row.values[field]
    if value is None:
        raise row.error("expected a value, found null", field=field)
    return value


def decoded(row: Row, value: Any, *, field: str) -> Any:
    """`value`, or what it says where it is JSON in a string. DataError where that JSON is broken."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise row.error(f"expected JSON in this text: {error}", field=field) from None


def describe(value: Any) -> str:
    """What kind of JSON value this is, in words."""
    if isinstance(value, str):
        return f"text {value[:40]!r}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else type(value).__name__


def _present(field: str, names: Iterable[str]) -> str:
    names = [str(name) for name in names]
    near = did_you_mean(field, names)
    there = f"the row has {', '.join(names) or 'no field'}"
    return f"{there}; {near}" if near else there
