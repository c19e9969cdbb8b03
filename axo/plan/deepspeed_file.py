"""DeepSpeed's configuration as it is written: in a JSON file or in the recipe, and where each of its keys stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from axo.errors import Finding, RecipeError

KEY = "deepspeed"
SHIPPED = "deepspeed_configs/zero1.json, zero2.json, zero3_bf16.json and others are shipped with axo"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]')


@dataclass(frozen=True)
class Written:
    """The configuration before anything is filled in."""

    values: Mapping[str, Any]
    file: str | None = None
    """None: it stands in the recipe itself."""
    lines: Mapping[str, int] = field(default_factory=dict[str, int])
    """Dotted key -> line of the file."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return KEY if self.file is None else Path(self.file).name

    def finding(self, key: str, message: str, hint: str | None = None) -> Finding:
        """A fault of a dotted key, at its line."""
        if self.file is None:
            return Finding(f"{KEY}.{key}", message, hint)
        line = self.lines.get(key) or self.lines.get(key.rpartition(".")[0])
        return Finding(key, message, hint, file=self.file, line=line)

    def at(self, key: str) -> Any:
        """The value of a dotted key, None where it is not given."""
        value: Any = self.values
        for part in key.split("."):
            value = cast("dict[str, Any]", value).get(part) if isinstance(value, dict) else None
        return value


def read(asked: str | Mapping[str, Any]) -> Written:
    """Raises RecipeError where there is no such file, or it is not one JSON mapping without repeated keys."""
    if not isinstance(asked, str):
        return Written(asked)
    path = Path(asked)
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise _error(f"there is no file {asked!r}", SHIPPED) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _error(f"{asked!r} cannot be read: {error}", SHIPPED) from None
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        finding = Finding("", f"not JSON: {error.msg} (column {error.colno})", None, file=asked, line=error.lineno)
        raise RecipeError([finding]) from None
    if not isinstance(values, dict):
        raise _error(f"{asked!r} holds no mapping", "DeepSpeed's configuration is a JSON object of keys")
    lines: dict[str, int] = {}
    for key, line in _places(text):
        if key in lines:
            raise RecipeError([Finding(key, f"is given twice, first in line {lines[key]}", None, asked, line)])
        lines[key] = line
    return Written(cast("dict[str, Any]", values), asked, lines)


def _places(text: str) -> Iterator[tuple[str, int]]:
    """Dotted key and line of every key of mappings in mappings."""
    stack: list[str | None] = []
    last = ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == ":":
            stack[-1] = json.loads(last)
            if all(part is not None for part in stack):
                yield ".".join(cast("list[str]", stack)), text.count("\n", 0, match.start()) + 1
        elif token in "{[":
            stack.append(None)
        elif token in "}]":
            stack.pop()
        last = token


def _error(message: str, hint: str) -> RecipeError:
    return RecipeError([Finding(KEY, message, hint)])
