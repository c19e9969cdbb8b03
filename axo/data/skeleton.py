"""What a chat template writes around the texts of a conversation, learnt from one render with marks for these texts.

A template that only places texts (trimmed or not) renders every conversation of the same shape as the same literal
texts with other texts between them. Whether it did so is checked for each conversation, never assumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from axo.data.mask import Turn

Field = Literal["content", "reasoning"]

_OPEN, _CLOSE = "\uf8a0", "\uf8a1"
"""Private-use characters, so that a mark shares no edge with a template's text."""
_PAD_LEFT, _PAD_RIGHT = "\u2003\u2002", "\u2002\u2003"
"""Rare white space, to see on which side a template trims."""
_MARK = re.compile(f"{_OPEN}([0-9]+)(r?){_CLOSE}")


def mark(number: int, field: Field = "content") -> str:
    """A text that stands for a text of message `number`."""
    return f"{_OPEN}{number}{'r' if field == 'reasoning' else ''}{_CLOSE}"


def padded_mark(number: int, field: Field = "content") -> str:
    """The mark between white space, as `learn` expects it."""
    return f"{_PAD_LEFT}{mark(number, field)}{_PAD_RIGHT}"


@dataclass(frozen=True)
class Place:
    """Where a template writes a text of a message, and how."""

    message: int
    field: Field
    trims_left: bool
    trims_right: bool

    def written(self, text: str) -> str:
        """The text as the template writes it here."""
        if self.trims_left:
            text = text.lstrip()
        return text.rstrip() if self.trims_right else text


class Anchor(NamedTuple):
    """A position in a literal text, which moves with it."""

    literal: int
    offset: int


Stretch = tuple[Anchor, Anchor]


@dataclass(frozen=True)
class Outline:
    """What the rules of a recipe make of a shape whose messages say nothing of their own about being trained."""

    ends: tuple[tuple[Stretch | None, ...], ...]
    """Of each turn, its ends of each kind."""
    spans: tuple[tuple[Stretch, float], ...]
    """Trained stretches with their weights."""


class Filled(NamedTuple):
    """A skeleton with the texts of one conversation."""

    text: str
    begins: list[tuple[int, int]]
    """(character, message) where each text of a message begins."""
    starts: list[int]
    """Where each literal text begins."""
    at: dict[tuple[int, Field], int | None]
    """Where each text's first character would stand before it is trimmed; None: it stands in several places."""
    shown: dict[tuple[int, Field], tuple[int, int]]
    """What is written of each text."""

    def place(self, stretch: Stretch) -> tuple[int, int]:
        """Where a stretch between two anchors stands."""
        (first, before), (last, behind) = stretch
        return self.starts[first] + before, self.starts[last] + behind

    def turn(self, number: int, stretch: Stretch, ends: tuple[tuple[int, int] | None, ...] = ()) -> Turn:
        """The turn of a message, whose own text is this stretch."""
        content: tuple[int, Field] = (number, "content")
        reasoning: tuple[int, Field] = (number, "reasoning")
        at, shown = self.at.get, self.shown.get
        return Turn(*self.place(stretch), ends, at(content), at(reasoning), shown(content), shown(reasoning))


@dataclass(frozen=True)
class Skeleton:
    literals: tuple[str, ...]
    """The template's own text before, between and after the places."""
    places: tuple[Place, ...]
    turns: tuple[Stretch | None, ...] = ()
    """Where each message's own text begins and ends (None: it is not written)."""
    outline: Outline | None = None
    """None: each conversation of this shape has to be looked at by itself."""

    def fill(self, texts: Mapping[tuple[int, Field], str]) -> Filled:
        """The text of a conversation with these texts of its messages."""
        pieces, starts, length = [self.literals[0]], [0], len(self.literals[0])
        at: dict[tuple[int, Field], int | None] = {}
        shown: dict[tuple[int, Field], tuple[int, int]] = {}
        begins: list[tuple[int, int]] = []
        for place, literal in zip(self.places, self.literals[1:], strict=True):
            key = (place.message, place.field)
            text = texts[key]
            written = place.written(text)
            cut = len(text) - len(text.lstrip()) if place.trims_left else 0
            at[key] = None if key in at else length - cut
            shown[key] = (length, length + len(written))
            begins.append((length, place.message))
            length += len(written)
            starts.append(length)
            pieces += (written, literal)
            length += len(literal)
        return Filled("".join(pieces), begins, starts, at, shown)

    def turns_in(self, filled: Filled) -> list[Turn | None]:
        """Where each message's own text stands."""
        return [None if own is None else filled.turn(number, own) for number, own in enumerate(self.turns)]


class Learnt:
    """The literal texts and places of a text that was rendered with padded marks."""

    def __init__(self, text: str) -> None:
        self.literals: list[str] = []
        self.places: list[Place] = []
        self._bounds: list[tuple[int, int]] = []
        position = 0
        for match in _MARK.finditer(text):
            start, end = match.span()
            keeps_left, keeps_right = text.endswith(_PAD_LEFT, position, start), text.startswith(_PAD_RIGHT, end)
            stop = start - len(_PAD_LEFT) * keeps_left
            self._add(text, position, stop)
            field: Field = "reasoning" if match[2] else "content"
            self.places.append(Place(int(match[1]), field, not keeps_left, not keeps_right))
            position = end + len(_PAD_RIGHT) * keeps_right
        self._add(text, position, len(text))

    def place(self, message: int, field: Field) -> Stretch | None:
        """Where that text stands; None: nowhere, or more than once."""
        numbers = [at for at, place in enumerate(self.places) if (place.message, place.field) == (message, field)]
        if len(numbers) != 1:
            return None
        return Anchor(numbers[0], len(self.literals[numbers[0]])), Anchor(numbers[0] + 1, 0)

    def ranges(self) -> dict[int, list[tuple[int, int]]]:
        """Message -> where its texts stand."""
        found: dict[int, list[tuple[int, int]]] = {}
        for before, after, place in zip(self._bounds, self._bounds[1:], self.places, strict=False):
            found.setdefault(place.message, []).append((before[1], after[0]))
        return found

    def anchors(self, start: int, end: int) -> Stretch | None:
        """Two positions of the text as places in its literals; None inside of a mark."""
        first, last = self._anchor(start), self._anchor(end)
        return None if first is None or last is None else (first, last)

    def position(self, anchor: Anchor) -> int:
        """Where an anchor stands in the text."""
        return self._bounds[anchor.literal][0] + anchor.offset

    def skeleton(self, turns: Sequence[Stretch | None], outline: Outline | None = None) -> Skeleton:
        return Skeleton(tuple(self.literals), tuple(self.places), tuple(turns), outline)

    def _anchor(self, position: int) -> Anchor | None:
        for number, (start, end) in enumerate(self._bounds):
            if start <= position <= end:
                return Anchor(number, position - start)
        return None

    def _add(self, text: str, start: int, end: int) -> None:
        self.literals.append(text[start:end])
        self._bounds.append((start, end))
