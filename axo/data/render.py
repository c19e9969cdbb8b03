"""A conversation becomes the chat template's text and the characters of it that are trained.

The text is rendered once, by transformers' own sandboxed renderer, so it is what `apply_chat_template` gives. Where
each turn stands in it is learnt from a skeleton (data/skeleton.py) that conversations of the same shape share. A
conversation that its skeleton does not explain is rendered again with one message exchanged at a time: what differs is
that message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from os.path import commonprefix
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from axo.data.mask import MaskOptions, Span, Turn, trained_spans, with_end_of_turn
from axo.data.messages import Conversation, Message
from axo.data.skeleton import Skeleton, learn, mark, padded_mark
from axo.errors import DataError

_REASONING = ("reasoning_content", "reasoning", "thinking")
"""transformers copies each of these properties to the others."""
_OWN_TEXT = frozenset({"tool_calls", "function_call", *_REASONING})
"""Properties that a model writes itself, so that a turn is more than its content."""
_CACHED_SKELETONS = 1024


@dataclass(frozen=True)
class Rendered:
    text: str
    spans: tuple[Span, ...]
    """Trained characters [start, end): sorted, disjoint."""


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
        self._template = template
        self._variables = {**tokenizer.special_tokens_map, **(template_kwargs or {})}
        self._mask = mask
        self._reads = lru_cache(maxsize=1024)(self._template_reads)
        self._skeletons: dict[Any, Skeleton | None] = {}
        self.fallbacks = 0
        """Conversations that needed further renders because no skeleton explained them."""
        self.trained_ends = 0
        """Conversations with a trained end-of-turn."""

    def render(self, conversation: Conversation) -> Rendered:
        """The conversation's text and trained characters.

        DataError (without a place): the template refuses the conversation, or a turn that is to be trained cannot be
        found in what it writes.
        """
        said = conversation.messages
        conversation = self._as_read(conversation)
        messages = conversation.messages
        text = self._write([message.as_template_input() for message in messages], conversation.tools)
        turns = with_end_of_turn(self._turns(conversation, text), text, self._mask.eot_tokens)
        self._check_all_found(turns, said, text)
        spans = trained_spans(turns, messages, self._mask)
        ends = {turn.eot[1] for turn in turns if turn is not None and turn.eot is not None}
        self.trained_ends += any(end in ends for _, end in spans)
        return Rendered(text, spans)

    def _as_read(self, conversation: Conversation) -> Conversation:
        """Without the properties that the template never looks at."""
        if not any(message.extra for message in conversation.messages):
            return conversation
        messages = [
            replace(message, extra={name: value for name, value in message.extra.items() if self._reads(name)})
            for message in conversation.messages
        ]
        return replace(conversation, messages=tuple(messages))

    def _template_reads(self, name: str) -> bool:
        names = _REASONING if name in _REASONING else (name,)
        return any(re.search(rf"\b{re.escape(each)}\b", self._template) for each in names)

    def _turns(self, conversation: Conversation, text: str) -> list[Turn | None]:
        messages = conversation.messages
        skeleton = self._skeleton(conversation)
        filled, turns = skeleton.fill([message.content for message in messages]) if skeleton else ("", [])
        if filled != text:
            self.fallbacks += 1
            turns = [self._by_difference(conversation, text, number) for number in range(len(messages))]
        for number, message in enumerate(messages):
            if _OWN_TEXT & message.extra.keys():
                others = [turn for other, turn in enumerate(turns) if other != number and turn is not None]
                turns[number] = self._by_generation(conversation, text, number, others)
        return turns

    def _skeleton(self, conversation: Conversation) -> Skeleton | None:
        """The skeleton of this conversation's shape; None where the template refuses marks as contents."""
        key = _shape(conversation)
        if key not in self._skeletons:
            if len(self._skeletons) >= _CACHED_SKELETONS:
                self._skeletons.clear()
            marked = [
                message if message.content is None else replace(message, content=padded_mark(number))
                for number, message in enumerate(conversation.messages)
            ]
            text = self._try(marked, conversation.tools)
            self._skeletons[key] = None if text is None else learn(text)
        return self._skeletons[key]

    def _by_difference(self, conversation: Conversation, text: str, number: int) -> Turn | None:
        """The turn as all that changes when this message's content is exchanged for a mark."""
        messages = conversation.messages
        if messages[number].content is None:
            return None
        around = self._around(conversation, number, messages[number].extra)
        if around is None:
            return self._by_generation(conversation, text, number, ())
        before, after = around
        if text.startswith(before) and text.endswith(after) and len(before) + len(after) <= len(text):
            return Turn(len(before), len(text) - len(after))
        return self._by_generation(conversation, text, number, ())

    def _by_generation(self, conversation: Conversation, text: str, number: int, others: Sequence[Turn]) -> Turn | None:
        """The turn from where the template lets the model begin to what follows the turn whatever it says.

        None where that cannot be told, or would take in one of the other turns.
        """
        message = conversation.messages[number]
        extra = {name: value for name, value in message.extra.items() if name not in _OWN_TEXT}
        around = self._around(conversation, number, extra)
        prompt = self._generation_prompt(conversation, number)
        if prompt is not None and text.startswith(prompt):
            start = len(prompt)
        elif around is not None:
            start = len(commonprefix([text, around[0]]))
        else:
            return None
        ends = [] if around is None or not text.endswith(around[1]) else [len(text) - len(around[1])]
        for end in (*ends, self._end_of_prefix(conversation, text, number)):
            if end is not None and start <= end and not any(start < turn.end and turn.start < end for turn in others):
                return Turn(start, end)
        return None

    def _end_of_prefix(self, conversation: Conversation, text: str, number: int) -> int | None:
        """Where the turn's own text ends when the conversation stops after it."""
        until = self._try(conversation.messages[: number + 1], conversation.tools)
        if until is None or not text.startswith(until):
            return None
        end = max((until.rfind(token) for token in self._mask.eot_tokens), default=-1)
        return len(until) if end < 0 else end

    def _generation_prompt(self, conversation: Conversation, number: int) -> str | None:
        if conversation.messages[number].role != "assistant" or not self._reads("add_generation_prompt"):
            return None
        return self._try(conversation.messages[:number], conversation.tools, add_generation_prompt=True)

    def _around(self, conversation: Conversation, number: int, extra: dict[str, Any]) -> tuple[str, str] | None:
        """What stands before and after message `number` when it is nothing but a mark."""
        messages = list(conversation.messages)
        messages[number] = Message(messages[number].role, mark(number), extra=extra)
        text = self._try(messages, conversation.tools)
        if text is None or text.count(mark(number)) != 1:
            return None
        before, after = text.split(mark(number))
        return before, after

    def _check_all_found(self, turns: Sequence[Turn | None], messages: Sequence[Message], text: str) -> None:
        """No turn that is to be trained is lost, and no tool call of one."""
        for number, (turn, message) in enumerate(zip(turns, messages, strict=True)):
            if not self._mask.trains(message):
                continue
            written = "" if turn is None else text[turn.start : turn.end]
            if turn is None and (message.content or _OWN_TEXT & message.extra.keys()):
                raise DataError(
                    f"message {number} ({message.role}) is to be trained, but its text cannot be found in what the "
                    "chat template writes: it leaves the message out or rewrites the conversation around it",
                    "use another chat template, or leave this message untrained",
                )
            lost = [name for name in _called(message) if name not in written]
            if lost:
                raise DataError(
                    f"message {number} ({message.role}) calls the tool {lost[0]!r}, but the chat template does not "
                    "write the call in that turn",
                    "use a chat template that writes tool_calls, or leave this message untrained",
                )

    def _try(self, messages: Sequence[Message], tools: Any, *, add_generation_prompt: bool = False) -> str | None:
        """The text of an altered conversation, or None where the template refuses it."""
        inputs = [message.as_template_input() for message in messages]
        try:
            return self._write(inputs, tools, add_generation_prompt=add_generation_prompt)
        except DataError:
            return None

    def _write(self, messages: list[dict[str, Any]], tools: Any, *, add_generation_prompt: bool = False) -> str:
        try:
            texts, _ = render_jinja_template(
                conversations=[messages],
                tools=tools,
                chat_template=self._template,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            )
        # A template is a program and may fail in any way.
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"the chat template refuses this conversation: {said}",
                "compare the roles and their order with what the template expects",
            ) from error
        return texts[0]


def _shape(conversation: Conversation) -> Any:
    """What a skeleton depends on: everything but the contents."""
    messages = conversation.messages
    roles = tuple(message.role for message in messages)
    if conversation.tools is None and not any(message.extra or message.content is None for message in messages):
        return roles
    rest = [(message.content is None, message.extra) for message in messages]
    return roles, json.dumps([conversation.tools, rest], default=repr)


def _called(message: Message) -> list[str]:
    """Names of the tools that a message calls."""
    calls = message.extra.get("tool_calls") or []
    names = [(call.get("function") or call).get("name") for call in calls]
    return [name for name in names if isinstance(name, str)]
