"""Values in the words of a recipe, short enough for a cell of a table."""

from __future__ import annotations

import re
from typing import Any, cast

from axo.plan.plan import said
from axo.recipe.section import Section


def in_words(value: Any) -> str:
    """A value as a recipe could write it on one line: `5e-5`, `a, b`, `key: value`."""
    if isinstance(value, float):
        return re.sub(r"e([-+])0", r"e\1", f"{value:g}").replace("e+", "e")
    if isinstance(value, list | tuple):
        items = [in_words(item) for item in cast("list[Any]", value)]
        return ", ".join(items) if items else "none"
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return ", ".join(f"{key}: {in_words(item)}" for key, item in inner.items()) or "none"
    return said(value).replace("\n", "\\n")


def amount(number: int, thing: str, things: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def is_block(value: Any) -> bool:
    """Whether a key holds further keys: a section, or a list of them."""
    items = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    return bool(items) and isinstance(items[0], Section)


def size_of_block(given: Any) -> str:
    """How much a block holds that is not shown in one cell: `9 keys`, `2 entries`."""
    if isinstance(given, dict):
        return amount(len(cast("dict[str, Any]", given)), "key")
    return amount(len(cast("list[Any]", given)), "entry", "entries")


def value_at(values: Any, key: str, *, otherwise: Any) -> Any:
    """The value at a dotted key in mappings and lists."""
    for part in key.split("."):
        if isinstance(values, dict) and part in values:
            values = cast("dict[str, Any]", values)[part]
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(cast("list[Any]", values)):
            values = cast("list[Any]", values)[int(part)]
        else:
            return otherwise
    return values


def in_binary(number: float) -> str:
    """Bytes as `12 B`, `1.5 MiB`, `7.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
