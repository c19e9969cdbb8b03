"""The rules of a recipe applied once to a shape of conversations, instead of to each conversation of it.

Where messages say nothing of their own about being trained, which stretches are trained depends on the shape alone: it
is worked out on the conversation of marks that the shape was learnt from, and moved to each conversation by anchors.
"""

from __future__ import annotations

from collections.abc import Sequence

from axo.data.locate import calls_tools
from axo.data.mask import MaskOptions, Span, Turn, joined, trained_spans, with_end_of_turn
from axo.data.messages import Message
from axo.data.skeleton import Filled, Learnt, Outline, OutlinedTurn, Stretch


def make_outline(
    learnt: Learnt, text: str, turns: Sequence[Turn | None], messages: Sequence[Message], mask: MaskOptions
) -> Outline | None:
    """`text` is what the template wrote of the `messages` of marks, whose `turns` stand in it.

    None where a turn is not found or holds more than texts, a text of it is not written once and inside of it, or an
    end of it could move against it.
    """
    if mask.last_answer or None in turns or any(message.extra for message in messages):
        return None
    ranges = learnt.ranges()
    begins = [(start, number) for number, stands in ranges.items() for start, _ in stands]
    ended = [turn for turn in with_end_of_turn(turns, text, mask, stops=begins) if turn]
    for number, turn in enumerate(ended):
        if any(start < turn.start or turn.end < end for start, end in ranges.get(number, ())):
            return None
    unsaid = [Message(message.role, message.content, reasoning=message.reasoning) for message in messages]
    stretches = _Stretches(learnt)
    own = [stretches.add(turn.start, turn.end) for turn in ended]
    outlined = [_outlined(learnt, number, unsaid[number], turn, stretches) for number, turn in enumerate(ended)]
    trained = [(stretches.add(span.start, span.end), span.weight) for span in trained_spans(ended, unsaid, mask)]
    if None in own or None in outlined or any(at is None for at, _ in trained):
        return None
    return Outline(
        tuple(message.role for message in messages),
        tuple(stretches.found),
        tuple(turn for turn in outlined if turn),
        tuple((at, weight) for at, weight in trained if at is not None),
    )


def outlines(outline: Outline, messages: Sequence[Message]) -> bool:
    """Whether an outline holds for these messages of its shape, as their row has them: none of them says anything about
    being trained, or more than texts that are written."""
    for turn, message in zip(outline.turns, messages, strict=True):
        if message.weight is not None or message.details or message.reasoning_details:
            return False
        if (message.extra and calls_tools(message)) or (message.reasoning and turn.reasoning is None):
            return False
    return True


def outlined(outline: Outline, filled: Filled) -> tuple[tuple[Span, ...], tuple[Turn, ...]]:
    """The trained characters and the turns of a conversation for which an outline holds."""
    starts, shown, origins = filled.starts, filled.shown, filled.origins
    places = [(starts[first] + before, starts[last] + behind) for (first, before), (last, behind) in outline.stretches]
    turns: list[Turn] = []
    for (start, end), (ends, content, reasoning) in zip(places, outline.turns, strict=False):
        stand = tuple([None if at is None else places[at] for at in ends])
        turn = Turn(start, end, stand, origins[content], None, shown[content])
        if reasoning is not None:
            turn = turn._replace(reasoning=origins[reasoning], reasoning_written=shown[reasoning])
        turns.append(turn)
    return joined([Span(*places[at], weight) for at, weight in outline.spans]), tuple(turns)


class _Stretches:
    """Stretches of the text of marks, numbered."""

    def __init__(self, learnt: Learnt) -> None:
        self._learnt = learnt
        self.found: list[Stretch] = []

    def add(self, start: int, end: int) -> int | None:
        """The number of a stretch; None where it begins or ends inside of a mark."""
        stretch = self._learnt.anchors(start, end)
        if stretch is None:
            return None
        self.found.append(stretch)
        return len(self.found) - 1


def _outlined(learnt: Learnt, number: int, message: Message, turn: Turn, stretches: _Stretches) -> OutlinedTurn | None:
    ends = tuple(None if end is None else stretches.add(*end) for end in turn.ends)
    content, reasoning = learnt.number(number, "content"), learnt.number(number, "reasoning")
    moves = any(end is not None and at is None for end, at in zip(turn.ends, ends, strict=True))
    if moves or content is None or (message.reasoning and reasoning is None):
        return None
    return OutlinedTurn(ends, content, reasoning)
