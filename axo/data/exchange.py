"""Texts of a conversation found by exchanging many of them at once: one at a time takes a render for each message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from axo.data.locate import Locator, Range, calls_tools
from axo.data.messages import Message
from axo.data.skeleton import MARK, Field


def written_of(locator: Locator, numbers: Iterable[int], field: Field = "content") -> dict[int, list[Range]]:
    """What `Locator.written` says of that text of each of these messages."""
    numbers, messages = list(numbers), locator.conversation.messages
    said = {at: text for at in numbers if (text := getattr(messages[at], field)) is not None}
    found = _exchanged(locator, {at: messages[at]._replace(**{field: locator.stand_in(at)}) for at in said}, said=said)
    return {number: [found[number]] if number in found else locator.written(number, field) for number in numbers}


def plain_of(locator: Locator, numbers: Iterable[int]) -> dict[int, Range]:
    """What gives way to `Locator.plain`, of those messages that turn out to be written without thoughts and calls."""
    messages = locator.conversation.messages
    said = {at: messages[at].content or "" for at in numbers if not calls_tools(messages[at])}
    return _exchanged(locator, {at: locator.plain(at) for at in said}, said=said)


def _exchanged(locator: Locator, instead: Mapping[int, Message], *, said: Mapping[int, str]) -> dict[int, Range]:
    """Message -> what of the text gives way to its mark, if these messages, each with its mark, stand there instead.

    All of them are exchanged at once, and each half by itself where that does not leave exactly what they said, with or
    without a thought in it. Those that are left out have to be looked at alone.
    """
    if len(instead) < 2:
        return {}
    found = _together(locator, instead)
    if found is not None and all(_is_said(locator.text[slice(*found[at])], said[at]) for at in found):
        return found
    numbers = list(instead)
    middle = len(numbers) // 2
    halves = ({number: instead[number] for number in half} for half in (numbers[:middle], numbers[middle:]))
    first, second = (_exchanged(locator, half, said=said) for half in halves)
    return first | second


def _is_said(written: str, said: str) -> bool:
    return written.strip() in (said.strip(), said.rpartition("</think>")[2].strip())


def divided(text: str, literals: Sequence[str]) -> list[Range] | None:
    """What stands between literal texts that follow each other in `text`, from its beginning to its end.

    None where they do not, or could stand elsewhere too: each is looked for from both ends of the text.
    """
    start, end = len(literals[0]), len(text) - len(literals[-1])
    if start > end or not text.startswith(literals[0]) or not text.endswith(literals[-1]):
        return None
    starts, ends, position = [start], list[int](), start
    for literal in literals[1:-1]:
        position = text.find(literal, position, end)
        if position < 0:
            return None
        ends.append(position)
        position += len(literal)
        starts.append(position)
    position = end
    for literal, first in zip(reversed(literals[1:-1]), reversed(ends), strict=True):
        position = text.rfind(literal, start, position)
        if position != first:
            return None
    return list(zip(starts, [*ends, end], strict=True))


def _together(locator: Locator, instead: Mapping[int, Message]) -> dict[int, Range] | None:
    """None where a mark does not stand there once, or the text around the marks is not that around the texts."""
    messages = list(locator.conversation.messages)
    for number, message in instead.items():
        messages[number] = message
    text = locator.writer.attempt(messages, locator.conversation.tools)
    if text is None:
        return None
    marks = {locator.stand_in(number): number for number in instead}
    literals, order, position = list[str](), list[int](), 0
    for match in MARK.finditer(text):
        if match[0] in marks:
            literals.append(text[position : match.start()])
            order.append(marks[match[0]])
            position = match.end()
    if sorted(order) != sorted(instead):
        return None
    ranges = divided(locator.text, [*literals, text[position:]])
    return None if ranges is None else dict(zip(order, ranges, strict=True))
