"""A conversation becomes the chat template's text and the characters of it that are trained.

The text is rendered once, as `apply_chat_template` renders it; data/turn_finder.py finds the turns in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from axo.data.jinja import REASONING, ChatTemplate
from axo.data.locate import has_own_text
from axo.data.mask import MaskOptions, Span, Turn, trained_spans, with_end_of_turn
from axo.data.messages import Conversation, Message
from axo.data.outline import outlined, outlines
from axo.data.skeleton import Filled, mark
from axo.data.turn_finder import Found, TurnFinder, thought_in_content
from axo.data.writer import Writer
from axo.errors import DataError, Finding, RecipeError


class Rendered(NamedTuple):
    text: str
    spans: tuple[Span, ...]
    """Trained characters: sorted, disjoint."""
    turns: tuple[Turn | None, ...] = ()
    """Where each message stands; None: the template does not write it."""
    roles: tuple[str, ...] = ()
    """One for each turn."""


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
        self._finder = TurnFinder(self._writer, mask)
        self._reads_all = self._writes_any_property()
        self.ends_turns = not mask.last_answer and any(whose in ("turn", "all") for _, whose in mask.ends())
        """Whether every trained turn is to end with a trained end-of-turn."""
        self.tools_unwritten = 0
        """Conversations with tools that the template never looks at."""
        self.reasoning_removed = 0
        """Messages whose chain of thought the template does not write."""

    @property
    def fallbacks(self) -> int:
        """Conversations that needed further renders because no skeleton explained them."""
        return self._finder.fallbacks

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
        if conversation.tools and not self._reads("tools"):
            self.tools_unwritten += 1
        found = self._finder.find(conversation, text)
        outline = found.skeleton.outline if isinstance(found, Filled) else None
        if isinstance(found, Filled) and outline is not None and outlines(outline, said):
            return Rendered(text, *outlined(outline, found), outline.roles)
        turns = with_end_of_turn(found.turns, text, self._mask, stops=found.begins)
        self.reasoning_removed += sum(_loses_reasoning(message, at, found) for at, message in enumerate(said))
        if self._mask.last_answer:
            spans = self._last_answer(conversation, text)
        else:
            self._check_all_found(turns, said, found)
            spans = trained_spans(turns, conversation.messages, self._mask)
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
        for message in conversation.messages:
            if message.extra or message.reasoning is not None:
                return replace(conversation, messages=tuple(map(self._message_as_read, conversation.messages)))
        return conversation

    def _message_as_read(self, message: Message) -> Message:
        extra = {name: value for name, value in message.extra.items() if self._reads(name)}
        reasoning = message.reasoning if any(map(self._reads, (message.reasoning_key, *REASONING))) else None
        return message._replace(extra=extra, reasoning=reasoning)

    def _writes_any_property(self) -> bool:
        """Whether the template writes messages with properties that it does not name, such as `message | tojson`."""
        probe = Message("user", "a", extra={"axo_probe": mark(0)})
        return mark(0) in (self._writer.attempt([probe, Message("assistant", "b")], None) or "")

    def _template_reads(self, name: str) -> bool:
        return self._reads_all or re.search(rf"\b{re.escape(name)}\b", self._writer.template.source) is not None

    def _last_answer(self, conversation: Conversation, text: str) -> tuple[Span, ...]:
        """Everything behind the prompt of the last message."""
        prompt = self._writer.attempt(conversation.messages[:-1], conversation.tools, add_generation_prompt=True)
        if prompt is None or not text.startswith(prompt):
            raise DataError(
                "the last message does not stand behind its prompt in what the chat template writes",
                "name the roles to train (roles_to_train), or use another chat template",
            )
        return (Span(len(prompt), len(text)),) if len(prompt) < len(text) else ()

    def _check_all_found(self, turns: Sequence[Turn | None], messages: Sequence[Message], found: Found) -> None:
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


def _loses_reasoning(message: Message, number: int, found: Found) -> bool:
    """Whether the template leaves out the chain of thought, given apart or in the content, of this message."""
    if (message.reasoning or "").strip():
        return not found.writes(number, "reasoning")
    return bool(thought_in_content(message)) and not found.writes(number, "content")


def _called(message: Message) -> list[str]:
    """Names of the tools that a message calls."""
    calls = message.extra.get("tool_calls") or []
    names = [(call.get("function") or call).get("name") for call in calls]
    return [name for name in names if isinstance(name, str)]
