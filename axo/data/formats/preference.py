"""Answers that are compared: what every format of preferences shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from axo.data.messages import Compared, Conversation, Message, Segments
from axo.data.rows import Row, describe, required
from axo.errors import DataError

_ASKS = ("user", "system", "developer")
"""Roles whose messages are no answer."""


def pair(prompt: str, *, chosen: str, rejected: str) -> Compared:
    """Two answers to a prompt, all as text."""
    return Compared((("chosen", _segments(prompt, chosen)), ("rejected", _segments(prompt, rejected))))


def judged(prompt: str, answer: str, *, desirable: bool) -> Compared:
    """One answer to a prompt and whether it is good, as text."""
    return Compared(((_side(desirable), _segments(prompt, answer)),))


def judged_conversation(conversation: Conversation, *, desirable: bool) -> Compared:
    """The same for the last answer of a conversation."""
    messages = conversation.messages
    start = len(messages) - len(answer_of(messages))
    return judged_answer(replace(conversation, messages=messages[:start]), messages[start:], desirable=desirable)


def judged_answer(prompt: Conversation, answer: Sequence[Message], *, desirable: bool) -> Compared:
    """The same for an answer to the messages of `prompt`."""
    return Compared(((_side(desirable), _answered(prompt, answer)),))


def pair_of_answers(prompt: Conversation, *, chosen: Sequence[Message], rejected: Sequence[Message]) -> Compared:
    """Two answers to the messages of `prompt`."""
    sides = (("chosen", chosen), ("rejected", rejected))
    return Compared(tuple((side, _answered(prompt, answer)) for side, answer in sides))


def answer_of(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages behind the last one that asks: usually one, more where tools are called in between."""
    return tuple(takewhile(lambda message: message.role not in _ASKS, reversed(messages)))[::-1]


def common_prompt(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Number of messages with which both conversations begin, but for the last answer of each."""
    limit = min(len(messages) - len(answer_of(messages)) for messages in (chosen, rejected))
    pairs = zip(chosen[:limit], rejected[:limit], strict=True)
    return sum(1 for _ in takewhile(lambda two: same_message(*two), pairs))


def same_message(one: Message, other: Message) -> bool:
    """Whether both say the same, whatever of them is trained."""
    return one.as_template_input() == other.as_template_input()


def no_answer(row: Row, messages: Sequence[Message], field: str) -> DataError:
    """The fault of a list of messages that ends with a question."""
    return row.error(
        f"expected an answer at the end of these messages, found one of the role {messages[-1].role!r}",
        "end the list with the message that is judged, or remove the row",
        field=field,
    )


def truth(row: Row, field: str) -> bool:
    """The value of a column that says true or false, also as 1 or 0 or in quotes. DataError where it says neither."""
    value = required(row, field)
    if isinstance(value, str) and value.strip().lower() in _TRUTHS:
        return _TRUTHS[value.strip().lower()]
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    hint = "write true for a desirable answer, false for an undesirable one"
    raise row.error(f"expected true or false, found {describe(value)}", hint, field=field)


_TRUTHS = {"true": True, "false": False}


def _side(desirable: bool) -> str:
    return "desirable" if desirable else "undesirable"


def _segments(prompt: str, answer: str) -> Segments:
    """The prompt and the answer as one text: trl tokenises them together, too."""
    return Segments(((prompt, 0.0), (answer, 1.0)), add_bos=True, add_eos=True, joined=True)


def _answered(prompt: Conversation, answer: Sequence[Message]) -> Conversation:
    """The prompt, of which nothing is trained, and the answer; what a tool returns in between is not trained either."""
    speaker = answer[-1].role
    weighed = [_weighed(message, 0.0) for message in prompt.messages]
    weighed += [_weighed(message, float(message.role == speaker)) for message in answer]
    return replace(prompt, messages=tuple(weighed))


def _weighed(message: Message, weight: float) -> Message:
    return message._replace(weight=weight, details=(), reasoning_details=())
