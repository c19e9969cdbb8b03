"""The two ways in which preference formats of old write a conversation themselves, without a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from axo.data.messages import Message


@dataclass(frozen=True)
class Style:
    """How a turn is written."""

    turn: str
    """A whole turn, with `{role}` and `{content}`."""
    opening: str
    """What stands before the answer."""
    end: str
    """What ends the answer."""

    def prompt(self, messages: Sequence[Message]) -> str:
        """The turns, and the opening of the answer."""
        turns = [self.turn.format(role=message.role, content=message.content or "") for message in messages]
        return "".join(turns) + self.opening

    def question(self, text: str, *, system: str = "") -> str:
        """The prompt of one question."""
        asked = [Message("system", system)] if system else []
        return self.prompt([*asked, Message("user", text)])


CHATML = Style("<|im_start|>{role}\n{content}<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>")
LLAMA3 = Style(
    "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|eot_id|>",
)
