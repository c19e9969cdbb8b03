"""What a chat template writes around the contents of a conversation, learnt from one render with marks for contents.

A template that only places contents (trimmed or not) renders every conversation of the same roles as the same literal
texts with other contents between them. Whether it did so is checked for each conversation, never assumed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from axo.data.mask import Turn

_OPEN, _CLOSE = "\uf8a0", "\uf8a1"
"""Private-use characters, so that a mark shares no edge with a template's text."""
_PAD_LEFT, _PAD_RIGHT = "\u2003\u2002", "\u2002\u2003"
"""Rare white space, to see on which side a template trims."""
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


def mark(number: int) -> str:
    """A text that stands for the content of message `number`."""
    return f"{_OPEN}{number}{_CLOSE}"


def padded_mark(number: int) -> str:
    """The mark between white space, as `learn` expects it."""
    return f"{_PAD_LEFT}{mark(number)}{_PAD_RIGHT}"


@dataclass(frozen=True)
class Place:
    """Where a template writes a message's content, and how."""

    message: int
    trims_left: bool
    trims_right: bool

    def written(self, content: str) -> str:
        """The content as the template writes it here."""
        if self.trims_left:
            content = content.lstrip()
        return content.rstrip() if self.trims_right else content


@dataclass(frozen=True)
class Skeleton:
    literals: tuple[str, ...]
    """The template's own text before, between and after the places."""
    places: tuple[Place, ...]

    def fill(self, contents: Sequence[str | None]) -> tuple[str, list[Turn | None]]:
        """The text with these contents, and where each message's content stands (None: nowhere)."""
        turns: list[Turn | None] = [None] * len(contents)
        pieces, length = [self.literals[0]], len(self.literals[0])
        for place, literal in zip(self.places, self.literals[1:], strict=True):
            content = place.written(contents[place.message] or "")
            turns[place.message] = Turn(length, length + len(content))
            pieces += (content, literal)
            length += len(content) + len(literal)
        return "".join(pieces), turns


def learn(text: str) -> Skeleton:
    """The skeleton of a conversation that was rendered with `padded_mark(i)` as the content of message i."""
    literals: list[str] = []
    places: list[Place] = []
    position = 0
    for match in _MARK.finditer(text):
        start, end = match.span()
        keeps_left, keeps_right = text.endswith(_PAD_LEFT, position, start), text.startswith(_PAD_RIGHT, end)
        literals.append(text[position : start - len(_PAD_LEFT) * keeps_left])
        places.append(Place(int(match[1]), not keeps_left, not keeps_right))
        position = end + len(_PAD_RIGHT) * keeps_right
    return Skeleton((*literals, text[position:]), tuple(places))
