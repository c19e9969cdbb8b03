"""Finds the messages of a conversation in what a chat template wrote of it.

Where each turn stands is learnt from a skeleton (data/skeleton.py) that conversations of the same shape share. A
conversation that its skeleton does not explain is rendered again with messages exchanged for marks: what differs is
theirs (data/exchange.py: many at once; data/locate.py: one).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from axo.data.exchange import plain_of, written_of
from axo.data.locate import Locator, Range, calls_tools, has_own_text, with_places
from axo.data.mask import MaskOptions, Turn
from axo.data.messages import Conversation, Message
from axo.data.outline import make_outline
from axo.data.skeleton import Anchor, Field, Filled, Learnt, Skeleton, padded_mark
from axo.data.writer import Writer

_CACHED_SKELETONS = 1024


@dataclass(frozen=True)
class Located:
    """Where the messages of one conversation stand in its text; `Filled` says the same of one with a skeleton."""

    locator: Locator
    turns: Sequence[Turn | None]
    begins: Sequence[tuple[int, int]]
    """(character, message) where further texts of messages begin."""

    @property
    def text(self) -> str:
        return self.locator.text

    def writes(self, number: int, field: Field) -> bool:
        """Whether the template writes that text of a message; a content only as far as its thought goes."""
        message, turn, text = self.locator.conversation.messages[number], self.turns[number], self.text
        written = text if turn is None else text[turn.start : turn.end]
        if field == "reasoning":
            found = self.locator.writes_reasoning(number) if message.reasoning else False
            return (message.reasoning or "").strip() in written if found is None else found
        thought = thought_in_content(message)
        return written.count(thought) >= (message.content or "").count(thought)


Found = Filled | Located


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
            filled = skeleton.fill(conversation.messages)
            if filled.text == text:
                return filled
        self.fallbacks += 1
        return self._located(conversation, text)

    def _located(self, conversation: Conversation, text: str) -> Located:
        """The turns of a conversation by itself."""
        locator = Locator(self._writer, conversation, text)
        written = written_of(locator, range(len(conversation.messages)))
        ordered = _apart(_turns(locator, self._generated(conversation, text), written))
        placed = _placed(ordered, locator, written)
        begins = [(start, number) for number, ranges in written.items() for start, _ in ranges]
        begins += self._unknown(locator, placed, written)
        return Located(locator, placed, begins)

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
        spoken = [
            number
            for number, message in enumerate(messages)
            if number not in whole
            and (has_own_text(message) or (message.role == "assistant" and learnt.repeats(number)))
        ]
        plain = plain_of(locator, spoken)
        others = learnt.ranges() | {at: [(turn.start, turn.end)] for at, turn in whole.items() if turn}
        for number in spoken:
            turn = whole[number] = locator.by_generation(number, others, plain.get(number))
            if turn is not None:
                others[number] = [(turn.start, turn.end)]
        anchors = [learnt.place(number, "content") for number in range(len(messages))]
        for number, turn in whole.items():
            anchors[number] = None if turn is None else learnt.anchors(turn.start, turn.end)
            if anchors[number] is None:
                return None
        turns = [_positions(learnt, anchor) for anchor in anchors]
        if _apart(turns) != turns:
            return None
        return learnt.skeleton(anchors, make_outline(learnt, text, turns, messages, self._mask))


def _turns(
    locator: Locator, known: Mapping[int, Turn | None], written: Mapping[int, Sequence[Range]]
) -> list[Turn | None]:
    """The turn of each message: one that is known, else the one place of its content, else what the model begins."""
    messages = locator.conversation.messages
    once = {at for at, ranges in written.items() if len(ranges) == 1 and not has_own_text(messages[at])}
    spoken = {
        number
        for number, message in enumerate(messages)
        if number not in known and number not in once and (message.role == "assistant" or has_own_text(message))
    }
    plain = plain_of(locator, sorted(spoken))
    others = {**written, **{at: [(turn.start, turn.end)] for at, turn in known.items() if turn}}
    turns: list[Turn | None] = []
    for number, message in enumerate(messages):
        turn = known.get(number)
        if number not in known:
            turn = Turn(*written[number][0]) if number in once else None
            if number in spoken:
                turn = locator.by_generation(number, others, plain.get(number))
            if turn is None and not has_own_text(message) and len(written[number]) < 2:
                turn = locator.by_insertion(number)
        if turn is not None:
            others[number] = [(turn.start, turn.end)]
        turns.append(turn)
    return turns


def thought_in_content(message: Message) -> str:
    """The chain of thought that stands in the content."""
    content = message.content or ""
    if message.role != "assistant" or "</think>" not in content:
        return ""
    return content.partition("</think>")[0].rpartition("<think>")[2].strip()


def _marked(message: Message, number: int) -> Message:
    if not _is_bare(message):
        message = message._replace(content=padded_mark(number))
    return message._replace(reasoning=padded_mark(number, "reasoning")) if message.reasoning else message


def _is_bare(message: Message) -> bool:
    """Whether it has nothing but calls, which templates write otherwise than behind a content."""
    return message.content is None or (not message.content.strip() and calls_tools(message))


def _shape(conversation: Conversation) -> Any:
    """What a skeleton depends on: everything but contents and chains of thought."""
    messages = conversation.messages
    roles = tuple([message.role for message in messages])
    thoughts = tuple([message.reasoning and True for message in messages])
    if conversation.tools is None and not [1 for message in messages if message.extra or message.content is None]:
        return roles, thoughts
    rest = [(message.content if _is_bare(message) else True, dict(message.extra)) for message in messages]
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


def _placed(
    turns: Sequence[Turn | None], locator: Locator, written: Mapping[int, Sequence[Range]]
) -> list[Turn | None]:
    """The turns with where their texts stand in them."""
    messages = locator.conversation.messages
    thinking = [
        number
        for number, (turn, message) in enumerate(zip(turns, messages, strict=True))
        if turn and message.reasoning and locator.writes_reasoning(number) is not False
    ]
    thoughts = written_of(locator, thinking, "reasoning")
    return [
        turn and with_places(turn, number, locator, written[number], thoughts.get(number))
        for number, turn in enumerate(turns)
    ]


def _apart(turns: Sequence[Turn | None]) -> list[Turn | None]:
    """Without those that share characters: where one of them stands is not known."""
    crossing: set[int] = set()
    reach, farthest = 0, -1  # how far the turns before go, and which of them goes there
    for start, end, number in sorted((turn.start, turn.end, number) for number, turn in enumerate(turns) if turn):
        if start < reach:
            crossing |= {number, farthest}
        if end > reach:
            reach, farthest = end, number
    return [None if number in crossing else turn for number, turn in enumerate(turns)]
