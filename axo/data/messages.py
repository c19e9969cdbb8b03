"""What a row means, whatever its format: a conversation, text in parts, tokens, or answers that are compared.

A weight says how much a part counts in the loss: 0 is not trained, 1 is the usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Detail:
    """Characters [start, end) of a text and their own weight; None is that of their turn."""

    start: int
    end: int
    weight: float | None


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str | None
    """None only where the turn consists of something else, such as tool calls."""
    weight: float | None = None
    """The data's own word on how much this turn is trained; None leaves it to the recipe."""
    details: tuple[Detail, ...] = ()
    """Parts of the content, in their order; where there are any, nothing else of the content is trained."""
    reasoning: str | None = None
    """The chain of thought."""
    reasoning_details: tuple[Detail, ...] = ()
    """Parts of the chain of thought, as `details`."""
    reasoning_key: str = "reasoning_content"
    """Property by which the template calls the chain of thought."""
    extra: Mapping[str, Any] = MappingProxyType({})
    """Other properties that a template may read: tool_calls, name, ..."""

    def as_template_input(self) -> dict[str, Any]:
        """The message as a chat template sees it; what is absent is left out, not passed as None."""
        said: dict[str, Any] = {"role": self.role}
        if self.content is not None:
            said["content"] = self.content
        if self.reasoning is not None:
            said[self.reasoning_key] = self.reasoning
        if self.extra:
            said.update(self.extra)
        return said


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the functions offered to the model."""


@dataclass(frozen=True)
class Segments:
    """Plain text in parts, each tokenised apart, so that a prompt has the tokens it will have at inference."""

    parts: tuple[tuple[str, float], ...]
    """(text, weight)."""
    add_bos: bool
    """Put in front, once, what the tokenizer itself puts in front of a text."""
    add_eos: int
    """End with so many end-of-sequence tokens (one or none, as a rule), trained as the last part is; one that the last
    part ends with already counts."""
    chunk: bool = False
    """A text longer than sequence_len is cut into pieces instead of dropped."""
    overlap: int = 0
    """Tokens of the text that a piece repeats of the one before it. Where it is above 0, each piece has its own tokens
    in front and at its end."""
    joined: bool = False
    """The parts are tokenised as one text instead; a token that holds characters of two parts counts for the weightier.
    What the tokenizer puts in front is not put before a text that begins with it."""


@dataclass(frozen=True)
class Tokens:
    """A row that is tokenised already."""

    ids: Sequence[int]
    labels: Sequence[int]
    """One for each id: the id where it is trained, -100 elsewhere; not shifted."""
    weights: Sequence[float] | None = None
    """One for each id; None: 1 for every trained one."""


@dataclass(frozen=True)
class Steps:
    """A prompt and the steps of its solution, each of which is judged (process reward models)."""

    prompt: str
    steps: tuple[tuple[str, int], ...]
    """(text, class); the class is the label of the step's last token, after `separator`."""
    separator: str
    max_completion_length: int | None
    """Tokens after which the steps are cut off."""
    last_step_only: bool
    """Only the last step carries its label."""


Sampled = Conversation | Segments | Tokens | Steps
"""What becomes one sample."""


@dataclass(frozen=True)
class Compared:
    """Answers to one prompt, each with the prompt in front, and what is said of it."""

    answers: tuple[tuple[str, Conversation | Segments], ...]
    """("chosen", ...) and ("rejected", ...), or one ("desirable", ...) or ("undesirable", ...)."""


Read = Sampled | Compared
"""What a format makes of a row."""
