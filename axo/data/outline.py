"""The rules of a recipe applied once to a shape of conversations, instead of to each conversation of it.

Where messages say nothing of their own about being trained, which stretches are trained depends on the shape alone: it
is worked out on the conversation of marks that the shape was learnt from, and moved to each conversation by anchors.
"""

from __future__ import annotations

from collections.abc import Sequence

from axo.data.mask import MaskOptions, Turn, trained_spans, with_end_of_turn
from axo.data.messages import Message
from axo.data.skeleton import Learnt, Outline


def make_outline(
    learnt: Learnt, text: str, turns: Sequence[Turn | None], messages: Sequence[Message], mask: MaskOptions
) -> Outline | None:
    """`text` is what the template wrote of the `messages` of marks, whose `turns` stand in it.

    None where a turn is not found or holds more than texts, or an end of it could move against it.
    """
    plain = all(turn is not None and not message.extra for turn, message in zip(turns, messages, strict=True))
    if not plain or mask.last_answer:
        return None
    unsaid = [Message(message.role, message.content, reasoning=message.reasoning) for message in messages]
    begins = [(start, number) for number, ranges in learnt.ranges().items() for start, _ in ranges]
    ended_turns = with_end_of_turn(turns, text, mask, stops=begins)
    spans = trained_spans(ended_turns, unsaid, mask)
    ends = [[None if end is None else learnt.anchors(*end) for end in turn.ends] for turn in ended_turns if turn]
    stretches = [(learnt.anchors(span.start, span.end), span.weight) for span in spans]
    moving = sum(end is not None for turn in ended_turns if turn for end in turn.ends)
    if any(place is None for place, _ in stretches) or moving != sum(end is not None for one in ends for end in one):
        return None
    return Outline(
        tuple(map(tuple, ends)),
        tuple((place, weight) for place, weight in stretches if place is not None),
    )


def says_nothing(messages: Sequence[Message]) -> bool:
    """Whether no message says anything about being trained."""
    return not any(message.weight is not None or message.details or message.reasoning_details for message in messages)
