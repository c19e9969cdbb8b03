"""The lists of a sweep file, from each of which a run takes one choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, cast

from axo.errors import Finding, RecipeError
from axo.recipe.parse import Document

PAIRS = "_"
"""The key whose value is a list of settings that go together."""
SHAPE = "a sweep file gives lists of values: learning_rate: [1e-4, 2e-4]"


@dataclass(frozen=True)
class Choice:
    """One value of a key, or one entry of the pairs."""

    settings: Mapping[str, Any]
    lines: Mapping[str, int]


class Groups:
    """The lists to choose from, one choice of each a run, the pairs last."""

    def __init__(self, document: Document, file: str) -> None:
        self._document, self._file = document, file
        self._faults = list(document.findings)
        self.all = [self._values(key, values) for key, values in document.values.items() if key != PAIRS]
        for key in _blank(document.values, document.lines, ""):
            if key != PAIRS:
                self._refuse(key, "no value is given", f"write {key}: [first, second]")
        pairs: Any = document.values.get(PAIRS)
        if pairs:
            self.all.append(self._pairs(pairs))

    def check(self) -> None:
        """Raises RecipeError with all faults."""
        if not self.all and not self._faults:
            self._refuse("", "there is nothing to choose from", SHAPE)
        for choice in (choice for group in self.all for choice in group):
            self._check_keys(choice)
        for first, second in combinations(self.all, 2):
            for key, other in dict.fromkeys(product(_keys(first), _keys(second))):
                if overlap(key, other):
                    line = next(choice.lines.get(other) for choice in second if other in choice.settings)
                    self._refuse(other, f"is in the list of {key} already", "give it once", line)
        for group in self.all:
            self._check_repeats(group)
        if self._faults:
            raise RecipeError(sorted(dict.fromkeys(self._faults), key=lambda one: one.line or 0))

    def _values(self, key: str, values: Any) -> list[Choice]:
        if not isinstance(values, list):
            hint = f"write {key}: [...] with one value for each run"
            self._refuse(key, "found a single value, expected a list of values", hint)
            return []
        if not values:
            self._refuse(key, "the list is empty", "give values, or remove the key")
        items = cast("list[Any]", values)
        return [Choice({key: item}, self._lines(f"{key}.{index}", key)) for index, item in enumerate(items)]

    def _pairs(self, pairs: Any) -> list[Choice]:
        items = cast("list[Any]", pairs) if isinstance(pairs, list) else [pairs]
        for index, item in enumerate(items):
            if not isinstance(item, dict) or not isinstance(pairs, list):
                message = "expected a list of mappings, the keys of each set together"
                self._refuse(f"{PAIRS}.{index}", message, "write - first_key: value, and more keys below it")
                return []
        return [self._pair(cast("dict[str, Any]", item), f"{PAIRS}.{index}.") for index, item in enumerate(items)]

    def _pair(self, item: dict[str, Any], place: str) -> Choice:
        unset = dict.fromkeys(_blank(item, self._document.lines, place))
        return Choice({**item, **unset}, self._lines(place, ""))

    def _lines(self, place: str, key: str) -> dict[str, int]:
        """Lines at and below a place of the file, by their path in the settings."""
        below = place if place.endswith(".") else f"{place}."
        lines = {key: self._document.lines[place]} if place in self._document.lines else {}
        given = self._document.lines.items()
        return lines | {
            f"{key}.{path[len(below) :]}".lstrip("."): line for path, line in given if path.startswith(below)
        }

    def _check_keys(self, choice: Choice) -> None:
        for key in choice.settings:
            if key == "output_dir":
                message = "a sweep gives every run a folder of its own below output_dir"
                self._refuse(key, message, "set it in the recipe", choice.lines.get(key))
        for key, other in combinations(choice.settings, 2):
            if overlap(key, other):
                self._refuse(other, f"is set by {key} already", "give it once", choice.lines.get(other))

    def _check_repeats(self, group: Sequence[Choice]) -> None:
        seen: set[str] = set()
        for choice in group:
            text = json.dumps(dict(choice.settings), sort_keys=True, default=str)
            if text in seen:
                key = next(iter(choice.settings), PAIRS)
                self._refuse(key, "the same is given twice", "give it once", choice.lines.get(key))
            seen.add(text)

    def _refuse(self, key: str, message: str, hint: str, line: int | None = None) -> None:
        line = line or self._document.lines.get(key) or self._document.lines.get(key.partition(".")[0])
        self._faults.append(Finding(key, message, hint, self._file, line))


def _blank(values: Mapping[str, Any], lines: Mapping[str, int], place: str) -> list[str]:
    """Keys of the mapping at `place` that are written without a value: they unset a key."""
    blank: list[str] = []
    for path in (path[len(place) :] for path in lines if path.startswith(place)):
        if not any(start in values or start in blank for start in _starts(path)):
            blank.append(path)
    return blank


def _starts(path: str) -> Iterator[str]:
    """`a`, `a.b`, `a.b.c` of `a.b.c`."""
    parts = path.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _keys(group: Iterable[Choice]) -> list[str]:
    return list(dict.fromkeys(key for choice in group for key in choice.settings))


def overlap(one: str, other: str) -> bool:
    """Whether one of two dotted keys is the other or lies in it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
