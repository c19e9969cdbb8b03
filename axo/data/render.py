"""A conversation becomes the chat template's text and the characters of it that are trained.

The text is rendered once, as `apply_chat_template` renders it. Where each turn stands in it is learnt from a skeleton
(data/skeleton.py) that conversations of the same shape share. A conversation that its skeleton does not explain is
rendered again with one message exchanged at a time: what differs is that message (data/locate.py).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

from axo.data.jinja import REASONING, ChatTemplate
from axo.data.locate import Locator, Range, crosses, has_own_text, with_places
from axo.data.mask import MaskOptions, Span, Turn, trained_spans, with_end_of_turn
from axo.data.messages import Conversation, Message
from axo.data.skeleton import Anchor, Field, Learnt, Skeleton, padded_mark
from axo.data.writer import Writer
from axo.errors import DataError, Finding, RecipeError

_CACHED_SKELETONS = 1024


@dataclass(frozen=True)
class Rendered:
    text: str
    spans: tuple[Span, ...]
    """Trained characters: sorted, disjoint."""
    turns: tuple[Turn | None, ...] = ()
    """Where each message stands; None: the template does not write it."""
    roles: tuple[str, ...] = ()
    """One for each turn."""


@dataclass(frozen=True)
class _Found:
    """Where the messages of a conversation stand in its text."""

    text: str
    turns: Sequence[Turn | None]
    begins: Sequence[tuple[int, int]]
    """(character, message) where further texts of messages begin."""
    writes: Callable[[int, Field], bool]
    """Whether the template writes that text of that message."""


class Renderer:
    """Renders the conversations of one data set and counts what happened to them."""

    def __init__(
        self,
        template: str,
        *,
        tokenizer: Any,
        mask: MaskOptions,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """RecipeError where the template is no Jinja."""
        self._mask = mask
        variables = {**tokenizer.special_tokens_map, **(template_kwargs or {})}
        self._writer = Writer(_compiled(template), variables, eot_tokens=mask.end_texts())
        self._reads = lru_cache(maxsize=1024)(self._template_reads)
        self._skeletons: dict[Any, Skeleton | None] = {}
        self.fallbacks = 0
        """Conversations that needed further renders because no skeleton explained them."""
        self.trained_turns = 0
        """Turns of which something is trained."""
        self.trained_ends = 0
        """Those of them whose end-of-turn is trained."""
        self.unended_turns = 0
        """Those of them that are to end with a trained end-of-turn and do not."""
        self._ends_turns = not mask.last_answer and any(whose in ("turn", "all") for _, whose in mask.ends())
        self.reasoning_removed = 0
        """Messages whose chain of thought the template does not write."""

    @property
    def takes_parts(self) -> bool:
        """Whether the template writes contents only where they are lists of parts."""
        return self._writer.takes_parts

    def render(self, conversation: Conversation) -> Rendered:
        """The conversation's text and trained characters.

        DataError (without a place): the template refuses the conversation, or a turn that is to be trained cannot be
        found in what it writes.
        """
        said = conversation.messages
        conversation = self._as_read(conversation)
        text = self._writer.write(conversation.messages, conversation.tools)
        found = self._found(conversation, text)
        turns = with_end_of_turn(found.turns, text, self._mask, stops=found.begins)
        self.reasoning_removed += sum(_loses_reasoning(message, at, found) for at, message in enumerate(said))
        if self._mask.last_answer:
            spans = self._last_answer(conversation, text)
        else:
            self._check_all_found(turns, said, found)
            spans = trained_spans(turns, conversation.messages, self._mask)
        self._count_ends(turns, spans)
        return Rendered(text, spans, tuple(turns), tuple(message.role for message in conversation.messages))

    def prompt(self, conversation: Conversation) -> str | None:
        """What a model is given before it answers: the conversation with the template's generation prompt.

        None: the template refuses such a conversation, or has no generation prompt.
        """
        if not self._writer.reads_generation_prompt:
            return None
        conversation = self._as_read(conversation)
        return self._writer.attempt(conversation.messages, conversation.tools, add_generation_prompt=True)

    def _as_read(self, conversation: Conversation) -> Conversation:
        """Without the properties that the template never looks at."""
        if not any(message.extra or message.reasoning is not None for message in conversation.messages):
            return conversation
        return replace(conversation, messages=tuple(map(self._message_as_read, conversation.messages)))

    def _message_as_read(self, message: Message) -> Message:
        extra = {name: value for name, value in message.extra.items() if self._reads(name)}
        reasoning = message.reasoning if any(map(self._reads, (message.reasoning_key, *REASONING))) else None
        return replace(message, extra=extra, reasoning=reasoning)

    def _template_reads(self, name: str) -> bool:
        return re.search(rf"\b{re.escape(name)}\b", self._writer.template.source) is not None

    def _found(self, conversation: Conversation, text: str) -> _Found:
        skeleton = self._skeleton(conversation)
        if skeleton is not None:
            filled = skeleton.fill(_texts(conversation.messages))
            if filled.text == text:
                places = {(place.message, place.field) for place in skeleton.places}
                return _Found(text, filled.turns, filled.begins, lambda number, field: (number, field) in places)
        self.fallbacks += 1
        return self._located(conversation, text)

    def _located(self, conversation: Conversation, text: str) -> _Found:
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
        return _Found(text, placed, begins, lambda number, field: _is_written(locator, placed, number, field))

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
        return learnt.skeleton(anchors) if _apart(turns) == turns else None

    def _last_answer(self, conversation: Conversation, text: str) -> tuple[Span, ...]:
        """Everything behind the prompt of the last message."""
        prompt = self._writer.attempt(conversation.messages[:-1], conversation.tools, add_generation_prompt=True)
        if prompt is None or not text.startswith(prompt):
            raise DataError(
                "the last message does not stand behind its prompt in what the chat template writes",
                "name the roles to train (roles_to_train), or use another chat template",
            )
        return (Span(len(prompt), len(text)),) if len(prompt) < len(text) else ()

    def _count_ends(self, turns: Sequence[Turn | None], spans: Sequence[Span]) -> None:
        starts = [span.start for span in spans]
        for turn in turns:
            if turn is None:
                continue
            before = bisect_left(starts, turn.end) - 1
            if before < 0 or max(turn.start, starts[before]) >= min(turn.end, spans[before].end):
                continue
            ended = any(_holds(spans, starts, end) for end in turn.ends if end)
            self.trained_turns += 1
            self.trained_ends += ended
            self.unended_turns += self._ends_turns and not ended

    def _check_all_found(self, turns: Sequence[Turn | None], messages: Sequence[Message], found: _Found) -> None:
        """No turn that is to be trained is lost, no part of one, and no tool call."""
        for number, (turn, message) in enumerate(zip(turns, messages, strict=True)):
            if not self._mask.trains(message):
                continue
            name = f"message {number} ({message.role})"
            if turn is None and (message.content or has_own_text(message)):
                raise DataError(
                    f"{name} is to be trained, but its text cannot be found in what the "
                    "chat template writes: it leaves the message out or rewrites the conversation around it",
                    "use another chat template, or leave this message untrained",
                )
            for place, details in (("content", message.details), ("reasoning", message.reasoning_details)):
                lost = turn is not None and details and getattr(turn, place) is None
                if lost and (place == "content" or found.writes(number, "reasoning")):
                    raise DataError(
                        f"parts of the {place} of {name} are to be trained, but the chat template does not write "
                        "that text once and as it is, so that its parts cannot be told",
                        "use another chat template, or train the message as a whole",
                    )
            written = "" if turn is None else found.text[turn.start : turn.end]
            lost = [call for call in _called(message) if call not in written] if message.extra else []
            if lost:
                raise DataError(
                    f"{name} calls the tool {lost[0]!r}, but the chat template does not write the call in that turn",
                    "use a chat template that writes tool_calls, or leave this message untrained",
                )


@lru_cache(maxsize=8)
def _compiled(source: str) -> ChatTemplate:
    try:
        return ChatTemplate(source)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = "" if line is None else f" (its line {line})"
        message = f"the chat template is no Jinja{where}: {error}"
        raise RecipeError([Finding("chat_template", message, "mend it, or use another template")]) from None


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


def _holds(spans: Sequence[Span], starts: Sequence[int], end: Range) -> bool:
    """Whether a span holds this end of a turn."""
    before = bisect_right(starts, end[0]) - 1
    return before >= 0 and end[1] <= spans[before].end


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
    thought = _thought(message)
    return text.count(thought) >= (message.content or "").count(thought)


def _loses_reasoning(message: Message, number: int, found: _Found) -> bool:
    """Whether the template leaves out the chain of thought, given apart or in the content, of this message."""
    if (message.reasoning or "").strip():
        return not found.writes(number, "reasoning")
    return bool(_thought(message)) and not found.writes(number, "content")


def _thought(message: Message) -> str:
    """The chain of thought that stands in the content."""
    content = message.content or ""
    if message.role != "assistant" or "</think>" not in content:
        return ""
    return content.partition("</think>")[0].rpartition("<think>")[2].strip()


def _called(message: Message) -> list[str]:
    """Names of the tools that a message calls."""
    calls = message.extra.get("tool_calls") or []
    names = [(call.get("function") or call).get("name") for call in calls]
    return [name for name in names if isinstance(name, str)]
