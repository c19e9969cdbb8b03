"""What a row means, whatever its format: a conversation for a chat template, or segments of plain text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str | None
    """None only where the turn consists of something else, such as tool calls."""
    trained: bool | None = None
    """The data's own word on whether this turn is trained; None leaves it to the recipe."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Other properties that a template may read: tool_calls, name, reasoning_content, ..."""

    def as_template_input(self) -> dict[str, Any]:
        """The message as a chat template sees it; absent content is left out, not passed as None."""
        if self.content is None:
            return {"role": self.role, **self.extra}
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the functions offered to the model."""


@dataclass(frozen=True)
class Segments:
    """Plain text in parts, each tokenised apart, so that a prompt has the tokens it will have at inference."""

    parts: tuple[tuple[str, bool], ...]
    """(text, trained)."""
    add_bos: bool
    """Put in front, once, what the tokenizer itself puts in front of a text."""
    add_eos: bool
    """End with the end-of-sequence token, trained as the last part is."""
    chunk: bool = False
    """A text longer than sequence_len is cut into pieces instead of dropped."""
