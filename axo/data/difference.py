"""Two texts that should be equal and are not, laid under each other where they first differ, white space visible."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

_AROUND = 40
"""Characters shown before and behind the first difference."""


def difference(expected: Sequence[str], found: Sequence[str]) -> str | None:
    """What is different first, in lines; None where both are equal. The texts are stretches that are trained."""
    if list(expected) == list(found):
        return None
    at = next((at for at, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), None)
    counts = f"{_stretches(len(found))} trained, {len(expected)} expected"
    if not expected:
        return f"nothing should be trained, and {_stretches(len(found))} found, the first: {visible(found[0])}"
    if not found:
        return f"nothing is trained, and {_stretches(len(expected))} expected, the first: {visible(expected[0])}"
    if at is None and len(found) > len(expected):
        return f"{counts}; number {len(expected) + 1} is trained and should not be: {visible(found[len(expected)])}"
    if at is None:
        return f"{counts}; number {len(found) + 1} should be trained and is not: {visible(expected[len(found)])}"
    lead = f"{counts}; " if len(expected) != len(found) else ""
    which = f"stretch {at + 1}: " if len(expected) > 1 or len(found) > 1 else ""
    return f"{lead}{which}{_under_each_other(expected[at], found[at])}"


def visible(text: str, *, longest: int = 4 * _AROUND) -> str:
    """The text in quotes with every white space and unprintable character visible, cut where it is long."""
    more = f" and {len(text) - longest:,} more characters" if len(text) > longest else ""
    return f'"{"".join(map(_visible, text[:longest]))}"{more}'


def _under_each_other(expected: str, found: str) -> str:
    at = next((at for at, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(expected), len(found)) if at is None else at
    start = max(0, at - _AROUND)
    before = ("..." if start else '"') + "".join(map(_visible, expected[start:at]))
    rest = [_rest(text, at) for text in (expected, found)]
    arrow = " " * sum(map(_width, before)) + "^"
    lines = [
        f"the first difference is at character {at + 1}",
        f"    expected  {before}{rest[0]}",
        f"    found     {before}{rest[1]}",
        f"              {arrow}",
    ]
    return "\n".join(lines)


def _rest(text: str, at: int) -> str:
    end = at + _AROUND
    return "".join(map(_visible, text[at:end])) + ("..." if len(text) > end else '"')


def _visible(character: str) -> str:
    if character == " ":
        return "\u00b7"
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _width(character: str) -> int:
    """Columns that a terminal gives a character."""
    return 0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1


def _stretches(count: int) -> str:
    return f"{count} stretch{' is' if count == 1 else 'es are'}"
