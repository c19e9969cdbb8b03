"""What a chat template writes around the texts of a conversation, learnt from one render with marks for these texts.

A template that only places texts (trimmed or not) renders every conversation of the same shape as the same literal
texts with other texts between them. Whether it did so is checked for each conversation, never assumed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from sys import maxsize
from typing import Literal, NamedTuple

from axo.data.mask import Turn
from axo.data.messages import Message

Field = Literal["content", "reasoning"]

_OPEN, _CLOSE = "\uf8a0", "\uf8a1"
"""Private-use characters, so that a mark shares no edge with a template's text."""
_PAD_LEFT, _PAD_RIGHT = "\u2003\u2002", "\u2002\u2003"
"""Rare white space, to see on which side a template trims."""
MARK = re.compile(f"{_OPEN}([0-9]+)(r?){_CLOSE}")
"""What `mark` gives."""


def mark(number: int, field: Field = "content") -> str:
    """A text that stands for a text of message `number`."""
    return f"{_OPEN}{number}{'r' if field == 'reasoning' else ''}{_CLOSE}"


def padded_mark(number: int, field: Field = "content") -> str:
    """The mark between white space, as `learn` expects it."""
    return f"{_PAD_LEFT}{mark(number, field)}{_PAD_RIGHT}"


class Place(NamedTuple):
    """Where a template writes a text of a message, and how."""

    message: int
    field: Field
    trims_left: bool
    trims_right: bool


class Anchor(NamedTuple):
    """A position in a literal text, which moves with it."""

    literal: int
    offset: int


Stretch = tuple[Anchor, Anchor]


class OutlinedTurn(NamedTuple):
    """Numbers of the stretches and places that make a turn."""

    ends: tuple[int | None, ...]
    """Stretch of each kind of end-of-turn."""
    content: int
    reasoning: int | None


@dataclass(frozen=True)
class Outline:
    """What the rules of a recipe make of a shape whose messages say nothing of their own about being trained."""

    roles: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    """The own text of each message first."""
    turns: tuple[OutlinedTurn, ...]
    """One for each message."""
    spans: tuple[tuple[int, float], ...]
    """Trained stretches with their weights."""


@dataclass(frozen=True)
class Skeleton:
    literals: tuple[str, ...]
    """The template's own text before, between and after the places."""
    places: tuple[Place, ...]
    turns: tuple[Stretch | None, ...] = ()
    """Where each message's own text begins and ends (None: it is not written)."""
    outline: Outline | None = None
    """None: each conversation of this shape has to be looked at by itself."""

    @cached_property
    def numbers(self) -> dict[tuple[int, Field], list[int]]:
        return numbers_of(self.places)

    def fill(self, messages: Sequence[Message]) -> Filled:
        """The text of a conversation with the texts of these messages."""
        length = len(self.literals[0])
        pieces, starts, origins = [self.literals[0]], [0], list[int]()
        shown: list[tuple[int, int]] = []
        for (number, field, trims_left, trims_right), literal in zip(self.places, self.literals[1:], strict=True):
            message = messages[number]
            text = (message.content if field == "content" else message.reasoning) or ""
            written = text.lstrip() if trims_left else text
            origins.append(length - len(text) + len(written))
            if trims_right:
                written = written.rstrip()
            end = length + len(written)
            shown.append((length, end))
            starts.append(end)
            length = end + len(literal)
            pieces += (written, literal)
        return Filled(self, "".join(pieces), starts, shown, origins)


class Filled(NamedTuple):
    """A skeleton with the texts of one conversation."""

    skeleton: Skeleton
    text: str
    starts: list[int]
    """Where each literal text begins."""
    shown: list[tuple[int, int]]
    """Where the text of each place stands."""
    origins: list[int]
    """Where its first character would stand before it is trimmed."""

    @property
    def turns(self) -> list[Turn | None]:
        """Where each message's own text stands."""
        numbers = self.skeleton.numbers
        return [
            own and self._turn(own, numbers.get((message, "content"), ()), numbers.get((message, "reasoning"), ()))
            for message, own in enumerate(self.skeleton.turns)
        ]

    @property
    def begins(self) -> list[tuple[int, int]]:
        """(character, message) where each text of a message begins."""
        return [(start, place.message) for (start, _), place in zip(self.shown, self.skeleton.places, strict=True)]

    def writes(self, message: int, field: Field) -> bool:
        """Whether the template writes that text of that message."""
        return (message, field) in self.skeleton.numbers

    def _turn(self, own: Stretch, contents: Sequence[int], thoughts: Sequence[int]) -> Turn:
        """A turn whose texts stand in the places of these numbers."""
        content, content_written = self._text(contents)
        reasoning, reasoning_written = self._text(thoughts)
        (first, before), (last, behind) = own
        start, end = self.starts[first] + before, self.starts[last] + behind
        return Turn(start, end, (), content, reasoning, content_written, reasoning_written)

    def _text(self, numbers: Sequence[int]) -> tuple[int | None, tuple[int, int] | None]:
        """Where a text would begin before it is trimmed (None if it stands twice), and what is written of it."""
        if not numbers:
            return None, None
        last = numbers[-1]
        return self.origins[last] if len(numbers) == 1 else None, self.shown[last]


def numbers_of(places: Sequence[Place]) -> dict[tuple[int, Field], list[int]]:
    """Each text -> the numbers of the places where it stands."""
    numbers: dict[tuple[int, Field], list[int]] = {}
    for number, place in enumerate(places):
        numbers.setdefault((place.message, place.field), []).append(number)
    return numbers


class Learnt:
    """The literal texts and places of a text that was rendered with padded marks."""

    def __init__(self, text: str) -> None:
        self.literals: list[str] = []
        self.places: list[Place] = []
        self._bounds: list[tuple[int, int]] = []
        position = 0
        for match in MARK.finditer(text):
            start, end = match.span()
            keeps_left, keeps_right = text.endswith(_PAD_LEFT, position, start), text.startswith(_PAD_RIGHT, end)
            stop = start - len(_PAD_LEFT) * keeps_left
            self._add(text, position, stop)
            field: Field = "reasoning" if match[2] else "content"
            self.places.append(Place(int(match[1]), field, not keeps_left, not keeps_right))
            position = end + len(_PAD_RIGHT) * keeps_right
        self._add(text, position, len(text))
        self._numbers = numbers_of(self.places)

    def number(self, message: int, field: Field) -> int | None:
        """The number of the place where that text stands; None: nowhere, or more than once."""
        numbers = self._numbers.get((message, field), ())
        return numbers[0] if len(numbers) == 1 else None

    def repeats(self, message: int) -> bool:
        """Whether a message's content stands more than once."""
        return len(self._numbers.get((message, "content"), ())) > 1

    def place(self, message: int, field: Field) -> Stretch | None:
        """Where that text stands; None: nowhere, or more than once."""
        number = self.number(message, field)
        if number is None:
            return None
        return Anchor(number, len(self.literals[number])), Anchor(number + 1, 0)

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
        number = bisect_right(self._bounds, (position, maxsize)) - 1
        start, end = self._bounds[number]
        return Anchor(number, position - start) if position <= end else None

    def _add(self, text: str, start: int, end: int) -> None:
        self.literals.append(text[start:end])
        self._bounds.append((start, end))
