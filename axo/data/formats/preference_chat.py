"""Preferences whose prompts and answers are messages, rendered by a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.preference import (
    answer_of,
    common_prompt,
    judged_conversation,
    no_answer,
    pair_of_answers,
    same_message,
    truth,
)
from axo.data.formats.preference_messages import CHAT_KEYS, MessageColumn
from axo.data.messages import Compared, Conversation, Message
from axo.data.rows import Row

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class ChatPair:
    """A column of messages, or one question, and two columns of answers to it."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool] = True

    def __init__(self, entry: DatasetEntry, setting: Setting, *, field: str = "messages") -> None:
        asked = entry.field_messages if "field_messages" in entry.model_fields_set else field
        self._prompt = MessageColumn(entry, setting, field=asked, speaker="user")
        self._sides = _sides(entry, setting, default_system=False)

    def read(self, row: Row) -> Compared:
        """The answers, each as the continuation of the row's messages."""
        prompt = self._prompt.conversation(row)
        chosen, rejected = (self._answer(row, prompt, side) for side in self._sides)
        return pair_of_answers(prompt, chosen=chosen, rejected=rejected)

    def _answer(self, row: Row, prompt: Conversation, side: MessageColumn) -> tuple[Message, ...]:
        """A list of messages may also repeat the end of the prompt, or all of it, in front of the answer."""
        messages = side.messages(row)
        answer = answer_of(messages)
        if not answer:
            raise no_answer(row, messages, side.field)
        repeated = messages[: len(messages) - len(answer)]
        before = prompt.messages[max(0, len(prompt.messages) - len(repeated)) :]
        if len(before) != len(repeated) or not all(map(same_message, before, repeated)):
            raise row.error(
                f"the messages before the answer are not those of {self._prompt.field}",
                "leave them out; for rows whose answers are whole conversations: type: chat_template.argilla_chat",
                field=side.field,
            )
        return answer

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        chosen, rejected = self._sides
        return [
            {
                self._prompt.field: [self._prompt.example("user", f"Add one to {number}.")],
                chosen.field: chosen.example("assistant", str(number + 1)),
                rejected.field: rejected.example("assistant", str(number)),
            }
            for number in range(count)
        ]


class ConversationPair:
    """Two columns with whole conversations: what both begin with is the prompt."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool] = True

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._sides = _sides(entry, setting, default_system=True)

    def read(self, row: Row) -> Compared:
        """The conversations from where they differ, or at least their last answers."""
        chosen, rejected = (_answered(row, side) for side in self._sides)
        start = common_prompt(chosen.messages, rejected.messages)
        if start == 0:
            message = "chosen and rejected answer different prompts: their first messages differ"
            raise row.error(message, "give both the same prompt, or remove the row", field=self._sides[1].field)
        return pair_of_answers(
            Conversation(chosen.messages[:start], chosen.tools),
            chosen=chosen.messages[start:],
            rejected=rejected.messages[start:],
        )

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                side.field: example_exchange(side, number, number + right)
                for side, right in zip(self._sides, (1, 0), strict=True)
            }
            for number in range(count)
        ]


class JudgedChat:
    """A column of messages, of which the last one is judged."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool] = True

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._messages = MessageColumn(entry, setting, field=entry.field_messages, speaker="user")

    def read(self, row: Row) -> Compared:
        """The last answer of the conversation and what `label` says of it."""
        return judged_conversation(_answered(row, self._messages), desirable=truth(row, "label"))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        column = self._messages
        return [{column.field: example_exchange(column, number, number + 1), "label": True} for number in range(count)]


def example_exchange(column: MessageColumn, number: int, answer: int) -> list[dict[str, Any]]:
    """A question and an answer under the data set's names."""
    return [column.example("user", f"Add one to {number}."), column.example("assistant", str(answer))]


def _sides(entry: DatasetEntry, setting: Setting, *, default_system: bool) -> tuple[MessageColumn, MessageColumn]:
    chosen, rejected = (
        MessageColumn(entry, setting, field=field, speaker="assistant", default_system=default_system)
        for field in (entry.field_chosen or "chosen", entry.field_rejected or "rejected")
    )
    return chosen, rejected


def _answered(row: Row, column: MessageColumn) -> Conversation:
    conversation = column.conversation(row)
    if not answer_of(conversation.messages):
        raise no_answer(row, conversation.messages, column.field)
    return conversation
