"""Preferences without a `type:`: columns of the names that trl reads, with texts or with lists of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.preference import answer_of, judged, judged_answer, judged_conversation, no_answer, pair, truth
from axo.data.formats.preference_chat import ChatPair, ConversationPair
from axo.data.formats.preference_messages import CHAT_KEYS, MessageColumn
from axo.data.messages import Compared
from axo.data.rows import Row, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class PairColumns:
    """`prompt`, `chosen` and `rejected`; rows of messages may have the prompt in front of each answer instead."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool | None] = None

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._chosen, self._rejected = entry.field_chosen or "chosen", entry.field_rejected or "rejected"
        self._messages = ChatPair(entry, setting, field="prompt")
        self._conversations = ConversationPair(entry, setting)

    def read(self, row: Row) -> Compared:
        """Texts as they stand; messages as a chat template writes them."""
        if isinstance(row.values.get(self._chosen), list | dict):
            return (self._messages if "prompt" in row.values else self._conversations).read(row)
        return pair(text(row, "prompt"), chosen=text(row, self._chosen), rejected=text(row, self._rejected))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                "prompt": f"Question: what is one more than {number}?\nAnswer:",
                self._chosen: f" {number + 1}",
                self._rejected: f" {number}",
            }
            for number in range(count)
        ]


class JudgedColumns:
    """`prompt`, `completion` and `label`; rows of messages may have the prompt in front of the completion instead."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool | None] = None

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._prompt = MessageColumn(entry, setting, field="prompt", speaker="user")
        self._completion = MessageColumn(entry, setting, field="completion", speaker="assistant", default_system=False)
        self._conversation = MessageColumn(entry, setting, field="completion", speaker="assistant")

    def read(self, row: Row) -> Compared:
        """Texts as they stand; messages as a chat template writes them."""
        desirable = truth(row, "label")
        if not isinstance(row.values.get("completion"), list | dict):
            return judged(text(row, "prompt"), text(row, "completion"), desirable=desirable)
        if "prompt" not in row.values:
            whole = self._conversation.conversation(row)
            if not answer_of(whole.messages):
                raise no_answer(row, whole.messages, "completion")
            return judged_conversation(whole, desirable=desirable)
        answer = self._completion.messages(row)
        if not answer_of(answer):
            raise no_answer(row, answer, "completion")
        return judged_answer(self._prompt.conversation(row), answer, desirable=desirable)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                "prompt": f"Question: what is one more than {number}?\nAnswer:",
                "completion": f" {number + 1}",
                "label": True,
            }
            for number in range(count)
        ]
