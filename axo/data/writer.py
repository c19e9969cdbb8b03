"""What a chat template writes of a conversation, and of altered ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from axo.data.jinja import GENERATION_CLOSE, GENERATION_OPEN, ChatTemplate
from axo.data.messages import Conversation, Message
from axo.data.skeleton import mark
from axo.errors import DataError


class Writer:
    """Writes conversations by one template with one set of variables."""

    def __init__(self, template: ChatTemplate, variables: Mapping[str, Any], *, eot_tokens: Sequence[str]) -> None:
        self.template = template
        self._variables = variables
        self.eot_tokens = tuple(eot_tokens)
        self.reads_generation_prompt = "add_generation_prompt" in template.source
        self.takes_parts = self._wants_parts()

    def write(
        self,
        messages: Sequence[Message],
        tools: Any,
        *,
        add_generation_prompt: bool = False,
        mark_generation: bool = False,
    ) -> str:
        """The text of a conversation. DataError where the template refuses it or fails."""
        try:
            return self.template.render(
                self._inputs(messages),
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                variables=self._variables,
                mark_generation=mark_generation,
            )
        # A template is a program and may fail in any way.
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            hint = "compare the roles and their order with what the template expects"
            if any(message.content is None for message in messages) and "content" in said:
                hint = 'a message has no content, which this template does not expect: give it "content": ""'
            raise DataError(f"the chat template refuses this conversation: {said}", hint) from error

    def attempt(self, messages: Sequence[Message], tools: Any, **options: bool) -> str | None:
        """The text of an altered conversation, or None where the template refuses it."""
        try:
            return self.write(messages, tools, **options)
        except DataError:
            return None

    def blocks(self, conversation: Conversation) -> tuple[str, list[tuple[int, int]]] | None:
        """The text and where `generation` blocks stand in it, each without the end-of-turn text that it ends with."""
        marked = self.attempt(conversation.messages, conversation.tools, mark_generation=True)
        if marked is None:
            return None
        text, blocks, start = "", [], 0
        for piece in _split_marks(marked):
            if piece == GENERATION_OPEN:
                start = len(text)
            elif piece == GENERATION_CLOSE:
                blocks.append((start, self.before_end(text, start)))
            else:
                text += piece
        return text, blocks

    def before_end(self, text: str, start: int) -> int:
        """Where what begins at `start` and goes to the end of `text` ends without its end-of-turn texts.

        Each of them once: a content may itself end with one.
        """
        end, left = len(text), set(self.eot_tokens)
        while True:
            body = text[:end].rstrip()
            token = max((token for token in left if body.endswith(token)), key=len, default=None)
            if token is None or len(body) - len(token) < start:
                return end
            end = len(body) - len(token)
            left.remove(token)

    def after_end(self, text: str, start: int) -> int:
        """Behind the end-of-turn text that stands at `start`, if one does."""
        rest = text[start:].lstrip()
        token = next((token for token in self.eot_tokens if rest.startswith(token)), "")
        return len(text) - len(rest) + len(token) if token else start

    def _inputs(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as this template takes them."""
        inputs = [message.as_template_input() for message in messages]
        if self.takes_parts:
            for said in inputs:
                if "content" in said:
                    said["content"] = [{"type": "text", "text": said["content"]}]
        return inputs

    def _wants_parts(self) -> bool:
        """Whether the template writes contents only where they are lists of parts, as some that take images do."""
        self.takes_parts = False
        probe = [Message("user", mark(0)), Message("assistant", mark(1))]
        written = self.attempt(probe, None)
        if written is not None and mark(1) in written:
            return False
        self.takes_parts = True
        written = self.attempt(probe, None)
        return written is not None and mark(1) in written


def _split_marks(text: str) -> list[str]:
    pieces = [text]
    for sign in (GENERATION_OPEN, GENERATION_CLOSE):
        pieces = [part for piece in pieces for part in _parted(piece, sign)]
    return pieces


def _parted(text: str, sign: str) -> list[str]:
    parts = [part for piece in text.split(sign) for part in (piece, sign)]
    return [part for part in parts[:-1] if part]
