"""Entries of unfrozen_parameters: which parameters are trained, and which rows of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from axo.errors import Finding, RecipeError

KEY = "unfrozen_parameters"
_WITH_ROWS = re.compile(r"(?P<name>.+)\[(?P<start>\d*)(?P<colon>:(?P<stop>\d*))?\]")
_A_DOT = re.compile(r"(?<!\\)\.(?!\+)")
_SHOWN = 30


@dataclass(frozen=True)
class Pattern:
    """A regular expression for the beginning of a name, whose dots are dots unless a plus follows, and rows
    [start, stop) of it, or all (Axolotl, utils/freeze.py, LayerNamePattern)."""

    text: str
    expression: re.Pattern[str]
    rows: tuple[int, int | None] | None

    def matches(self, name: str) -> bool:
        return self.expression.match(name) is not None


def read_patterns(texts: Sequence[str]) -> list[Pattern]:
    """Raises RecipeError for what is no regular expression, or names no row."""
    return [_read(text, at=f"{KEY}.{index}") for index, text in enumerate(texts)]


def rows_of(patterns: Iterable[Pattern], *, name: str, num_rows: int) -> list[range] | None:
    """Rows of one parameter that the patterns which match it name; None: all. Where some give rows, only these are
    trained. Raises RecipeError for rows that it does not have."""
    given = [pattern for pattern in patterns if pattern.rows is not None and pattern.matches(name)]
    return [_range(pattern, name, num_rows) for pattern in given] or None


def faults(patterns: Sequence[Pattern], shapes: Mapping[str, Sequence[int]]) -> Iterator[Finding]:
    """Patterns that match none of the parameters, whose shapes are given by name."""
    for index, pattern in enumerate(patterns):
        if not any(pattern.matches(name) for name in shapes):
            message = f"{pattern.text!r} matches no parameter of the model"
            yield Finding(f"{KEY}.{index}", message, _names_that_exist(shapes))


def _read(text: str, *, at: str) -> Pattern:
    match = _WITH_ROWS.fullmatch(text)
    if match is None or not (match["start"] or match["colon"]):
        return Pattern(text, _compiled(text, at), None)
    start = int(match["start"] or 0)
    stop = start + 1 if match["colon"] is None else int(match["stop"]) if match["stop"] else None
    if stop is not None and stop <= start:
        message = f"{text!r} names no row: from {start} up to and without {stop}"
        raise RecipeError([Finding(at, message, "rows are [first:end], counted from 0, the end left out")])
    return Pattern(text, _compiled(match["name"], at), (start, stop))


def _compiled(text: str, at: str) -> re.Pattern[str]:
    try:
        return re.compile(_A_DOT.sub(r"\\.", text))
    except re.error as error:
        hint = "for example model.layers.(30|31).mlp, or model.embed_tokens.weight$[32000:]"
        raise RecipeError([Finding(at, f"{text!r} is no regular expression: {error}", hint)]) from error


def _range(pattern: Pattern, name: str, num_rows: int) -> range:
    assert pattern.rows is not None
    start, stop = pattern.rows[0], num_rows if pattern.rows[1] is None else pattern.rows[1]
    if not start < stop <= num_rows:
        message = f"{pattern.text!r} names rows from {start} up to {stop}, and {name} has {num_rows}"
        raise RecipeError([Finding(KEY, message, "rows are [first:end], counted from 0, the end left out")])
    return range(start, stop)


def _names_that_exist(names: Iterable[str]) -> str:
    kinds = list(dict.fromkeys(re.sub(r"\.\d+\.", ".<number>.", name) for name in names))
    more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
    return f"a pattern fits the beginning of a name; there are {', '.join(kinds[:_SHOWN])}{more}"
