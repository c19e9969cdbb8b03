"""Finds the messages of a conversation in what a chat template wrote of it.

Where each turn stands is learnt from a skeleton (data/skeleton.py) that conversations of the same shape share. A
conversation that its skeleton does not explain is rendered again with one message exchanged at a time: what differs is
that message (data/locate.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from axo.data.locate import Locator, Range, crosses, has_own_text, with_places
from axo.data.mask import MaskOptions, Turn
from axo.data.messages import Conversation, Message
from axo.data.outline import make_outline
from axo.data.skeleton import Anchor, Field, Filled, Learnt, Skeleton, padded_mark
from axo.data.writer import Writer

_CACHED_SKELETONS = 1024


@dataclass(frozen=True)
class Found:
    """Where the messages of a conversation stand in its text."""

    text: str
    located: Sequence[Turn | None]
    """Turns that were looked for in this text; those of a skeleton are known from it."""
    begins: Sequence[tuple[int, int]]
    """(character, message) where further texts of messages begin."""
    writes: Callable[[int, Field], bool]
    """Whether the template writes that text of that message."""
    skeleton: Skeleton | None = None
    filled: Filled | None = None
    """How the skeleton's anchors stand in this text."""

    @property
    def turns(self) -> Sequence[Turn | None]:
        if self.skeleton is None or self.filled is None:
            return self.located
        return self.skeleton.turns_in(self.filled)


class TurnFinder:
    """Finds turns in the texts of one writer."""

    def __init__(self, writer: Writer, mask: MaskOptions) -> None:
        self._writer = writer
        self._mask = mask
        self._skeletons: dict[Any, Skeleton | None] = {}
        self.fallbacks = 0
        """Conversations that needed further renders because no skeleton explained them."""

    def find(self, conversation: Conversation, text: str) -> Found:
        """Where the messages of `conversation` stand in `text`, which the writer wrote of it."""
        skeleton = self._skeleton(conversation)
        if skeleton is not None:
            filled = skeleton.fill(_texts(conversation.messages))
            if filled.text == text:
                places = {(place.message, place.field) for place in skeleton.places}
                writes = lambda number, field: (number, field) in places  # noqa: E731
                return Found(text, (), filled.begins, writes, skeleton, filled)
        self.fallbacks += 1
        return self._located(conversation, text)

    def _located(self, conversation: Conversation, text: str) -> Found:
        """The turns of a conversation by itself."""
        messages = conversation.messages
        locator = Locator(self._writer, conversation, text)
        written = {number: locator.written(number) for number in range(len(messages))}
        turns = self._generated(conversation, text)
        for number, message in enumerate(messages):
            if number in turns:
                continue
            others = written | {at: [(turn.start, turn.end)] for at, turn in turns.items() if turn}
            turns[number] = None
            if len(written[number]) == 1 and not has_own_text(message):
                turns[number] = Turn(*written[number][0])
            elif message.role == "assistant" or has_own_text(message):
                turns[number] = locator.by_generation(number, others)
            if turns[number] is None and not has_own_text(message) and len(written[number]) < 2:
                turns[number] = locator.by_insertion(number)
        ordered = _apart([turns[number] for number in range(len(messages))])
        placed = [turn and with_places(turn, number, locator, written[number]) for number, turn in enumerate(ordered)]
        begins = [(start, number) for number, ranges in written.items() for start, _ in ranges]
        begins += self._unknown(locator, placed, written)
        return Found(text, placed, begins, lambda number, field: _is_written(locator, placed, number, field))

    def _generated(self, conversation: Conversation, text: str) -> dict[int, Turn | None]:
        """The assistant's turns as `generation` blocks, where the template has one for each."""
        if not self._writer.template.has_generation_blocks:
            return {}
        found = self._writer.blocks(conversation)
        answers = [number for number, message in enumerate(conversation.messages) if message.role == "assistant"]
        if found is None or found[0] != text or len(found[1]) != len(answers):
            return {}
        return {number: Turn(*block) for number, block in zip(answers, found[1], strict=True)}

    def _unknown(
        self, locator: Locator, turns: Sequence[Turn | None], written: Mapping[int, Sequence[Range]]
    ) -> list[tuple[int, int]]:
        """Where the text of messages whose place is not known begins at the earliest."""
        begins: list[tuple[int, int]] = []
        for number, message in enumerate(locator.conversation.messages):
            if turns[number] is None and not written[number] and (message.content or has_own_text(message)):
                before = max((turn.end for turn in turns[:number] if turn), default=0)
                begins.append((max(locator.until(number - 1), self._writer.after_end(locator.text, before)), number))
        return begins

    def _skeleton(self, conversation: Conversation) -> Skeleton | None:
        """The skeleton of this conversation's shape; None where there is none."""
        key = _shape(conversation)
        if key not in self._skeletons:
            if len(self._skeletons) >= _CACHED_SKELETONS:
                self._skeletons.clear()
            self._skeletons[key] = self._learn(conversation)
        return self._skeletons[key]

    def _learn(self, conversation: Conversation) -> Skeleton | None:
        """None where the template refuses marks as texts, or a turn cannot be told from what is around it."""
        messages = tuple(_marked(message, number) for number, message in enumerate(conversation.messages))
        marked = replace(conversation, messages=messages)
        text = self._writer.attempt(messages, marked.tools)
        if text is None:
            return None
        learnt = Learnt(text)
        whole = self._generated(marked, text)
        if not whole and self._writer.template.has_generation_blocks:
            found = self._writer.blocks(marked)
            if found is None or found[0] != text:
                return None
            whole |= _owners(found[1], learnt, messages)
        locator = Locator(self._writer, marked, text)
        for number, message in enumerate(messages):
            twice = sum(place.message == number and place.field == "content" for place in learnt.places) > 1
            if number not in whole and (has_own_text(message) or (twice and message.role == "assistant")):
                others = learnt.ranges() | {at: [(turn.start, turn.end)] for at, turn in whole.items() if turn}
                whole[number] = locator.by_generation(number, others)
        anchors = [learnt.place(number, "content") for number in range(len(messages))]
        for number, turn in whole.items():
            anchors[number] = None if turn is None else learnt.anchors(turn.start, turn.end)
            if anchors[number] is None:
                return None
        turns = [_positions(learnt, anchor) for anchor in anchors]
        if _apart(turns) != turns:
            return None
        return learnt.skeleton(anchors, make_outline(learnt, text, turns, messages, self._mask))


def thought_in_content(message: Message) -> str:
    """The chain of thought that stands in the content."""
    content = message.content or ""
    if message.role != "assistant" or "</think>" not in content:
        return ""
    return content.partition("</think>")[0].rpartition("<think>")[2].strip()


def _texts(messages: Sequence[Message]) -> dict[tuple[int, Field], str]:
    texts: dict[tuple[int, Field], str] = {}
    for number, message in enumerate(messages):
        texts[number, "content"] = message.content or ""
        texts[number, "reasoning"] = message.reasoning or ""
    return texts


def _marked(message: Message, number: int) -> Message:
    if not _is_bare(message):
        message = replace(message, content=padded_mark(number))
    return replace(message, reasoning=padded_mark(number, "reasoning")) if message.reasoning else message


def _is_bare(message: Message) -> bool:
    """Whether it has nothing but calls, which templates write otherwise than behind a content."""
    return message.content is None or (not message.content.strip() and has_own_text(replace(message, reasoning=None)))


def _shape(conversation: Conversation) -> Any:
    """What a skeleton depends on: everything but contents and chains of thought."""
    messages = conversation.messages
    roles = tuple(message.role for message in messages)
    thoughts = tuple(message.reasoning if not message.reasoning else True for message in messages)
    if conversation.tools is None and not any(message.extra or message.content is None for message in messages):
        return roles, thoughts
    rest = [(message.content if _is_bare(message) else True, message.extra) for message in messages]
    return roles, thoughts, json.dumps([conversation.tools, rest], default=repr)


def _owners(blocks: Sequence[tuple[int, int]], learnt: Learnt, messages: Sequence[Message]) -> dict[int, Turn | None]:
    """Message -> the `generation` block that holds one of its texts; those without text take the blocks left over."""
    owners: dict[int, Turn | None] = {}
    free = list(blocks)
    for number in range(len(messages)):
        for field in ("content", "reasoning"):
            turn = _positions(learnt, learnt.place(number, field))
            block = None if turn is None else next((at for at in free if at[0] <= turn.start <= at[1]), None)
            if block is not None:
                owners[number] = Turn(*block)
                free.remove(block)
                break
    silent = [at for at, message in enumerate(messages) if message.content is None and at not in owners]
    if len(silent) == len(free):
        owners |= {number: Turn(*block) for number, block in zip(silent, free, strict=True)}
    return owners


def _positions(learnt: Learnt, anchors: tuple[Anchor, Anchor] | None) -> Turn | None:
    """The turn between two anchors in the text that a skeleton is learnt from."""
    return None if anchors is None else Turn(learnt.position(anchors[0]), learnt.position(anchors[1]))


def _apart(turns: Sequence[Turn | None]) -> list[Turn | None]:
    """Without those that share characters: where one of them stands is not known."""
    return [
        None
        if turn
        and any(
            other and other is not turn and crosses((turn.start, turn.end), (other.start, other.end)) for other in turns
        )
        else turn
        for turn in turns
    ]


def _is_written(locator: Locator, turns: Sequence[Turn | None], number: int, field: Field) -> bool:
    """Whether the template writes that text of a message; a content only as far as its thought goes."""
    message, turn = locator.conversation.messages[number], turns[number]
    text = locator.text if turn is None else locator.text[turn.start : turn.end]
    if field == "reasoning":
        written = locator.writes_reasoning(number) if message.reasoning else False
        return (message.reasoning or "").strip() in text if written is None else written
    thought = thought_in_content(message)
    return text.count(thought) >= (message.content or "").count(thought)
