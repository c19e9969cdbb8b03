"""Pairs of answers under the ChatML or Llama 3 prompt that the format writes itself: `chatml.*`, `llama3.*`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.preference import pair
from axo.data.formats.preference_chat import ConversationPair, example_exchange
from axo.data.formats.preference_messages import CHAT_KEYS, MessageColumn
from axo.data.formats.preference_style import CHATML, LLAMA3, Style
from axo.data.messages import Compared, Conversation, Message
from axo.data.rows import Row, optional_text, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class TextPair:
    """Columns of a question and two answers, each a text, and perhaps of a system text."""

    keys: ClassVar[tuple[str, ...]] = ("field_system", "field_chosen", "field_rejected")
    chat: ClassVar[bool] = False

    def __init__(
        self,
        entry: DatasetEntry,
        setting: Setting,
        *,
        style: Style,
        prompts: tuple[str, ...] = ("prompt", "input", "question", "instruction"),
        chosen: tuple[str, ...] = ("chosen",),
        rejected: tuple[str, ...] = ("rejected",),
    ) -> None:
        """Of several names of a column the first is read that a row has."""
        self._style = style
        self._system = entry.field_system
        self._prompts = prompts
        self._chosen = (entry.field_chosen,) if entry.field_chosen else chosen
        self._rejected = (entry.field_rejected,) if entry.field_rejected else rejected

    def read(self, row: Row) -> Compared:
        """The prompt in the format's own words, and the answers with what ends a turn."""
        prompt = self._style.question(_first(row, self._prompts), system=optional_text(row, self._system))
        chosen, rejected = (_first(row, fields) + self._style.end for fields in (self._chosen, self._rejected))
        return pair(prompt, chosen=chosen, rejected=rejected)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                self._prompts[0]: f"Add one to {number}.",
                self._chosen[0]: str(number + 1),
                self._rejected[0]: str(number),
            }
            for number in range(count)
        ]


class AnsweredPair:
    """A column of the question; the answers are the last of two messages each (`*.ultra`)."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting, *, style: Style) -> None:
        self._style = style
        self._system = entry.field_system
        self._sides = tuple(
            MessageColumn(entry, setting, field=field, speaker="assistant", default_system=False)
            for field in (entry.field_chosen or "chosen", entry.field_rejected or "rejected")
        )

    def read(self, row: Row) -> Compared:
        """The same prompt and the last message of each list."""
        prompt = self._style.question(text(row, "prompt"), system=optional_text(row, self._system))
        chosen, rejected = (self._answer(row, side) for side in self._sides)
        return pair(prompt, chosen=chosen, rejected=rejected)

    def _answer(self, row: Row, side: MessageColumn) -> str:
        messages = side.messages(row)
        if len(messages) != 2:
            message = f"expected two messages, a question and an answer, found {len(messages)}"
            hint = "for whole conversations use the format argilla_chat of the same family"
            raise row.error(message, hint, field=side.field)
        return _content(row, messages[-1], side.field) + self._style.end

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {"prompt": f"Add one to {number}."}
            | {
                side.field: example_exchange(side, number, number + right)
                for side, right in zip(self._sides, (1, 0), strict=True)
            }
            for number in range(count)
        ]


class WrittenPair:
    """Two columns with whole conversations (`*.argilla_chat`)."""

    keys: ClassVar[tuple[str, ...]] = CHAT_KEYS
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting, *, style: Style) -> None:
        self._style = style
        self._fields = (entry.field_chosen or "chosen", entry.field_rejected or "rejected")
        self._pair = ConversationPair(entry, Setting())

    def read(self, row: Row) -> Compared:
        """The conversations up to their last answers as prompt, in the format's own words."""
        answered: list[str] = []
        prompts: list[str] = []
        for field, (_, conversation) in zip(self._fields, self._pair.read(row).answers, strict=True):
            assert isinstance(conversation, Conversation)
            *before, answer = conversation.messages
            prompts.append(self._style.prompt(before))
            answered.append(_content(row, answer, field) + self._style.end)
        if prompts[0] != prompts[1]:
            message = f"{' and '.join(self._fields)} differ before their last messages"
            hint = "as text, two answers need one prompt; type: chat_template.argilla_chat compares whole conversations"
            raise row.error(message, hint, field=self._fields[1])
        return pair(prompts[0], chosen=answered[0], rejected=answered[1])

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return self._pair.example_rows(count)


_LOOSE = {"chosen": ("chosen", "chosen_response"), "rejected": ("rejected", "rejected_response")}

chatml_default = partial(TextPair, style=CHATML, **_LOOSE)
chatml_argilla_chat = partial(WrittenPair, style=CHATML)
chatml_icr = partial(TextPair, style=CHATML, prompts=("input",))
chatml_intel = partial(TextPair, style=CHATML, prompts=("question",))
chatml_prompt_pairs = partial(TextPair, style=CHATML, prompts=("prompt",))
chatml_ultra = partial(AnsweredPair, style=CHATML)

llama3_default = partial(TextPair, style=LLAMA3, **_LOOSE)
llama3_argilla_chat = partial(WrittenPair, style=LLAMA3)
llama3_icr = partial(TextPair, style=LLAMA3, prompts=("input",))
llama3_intel = partial(TextPair, style=LLAMA3, prompts=("question",))
llama3_prompt_pairs = partial(TextPair, style=LLAMA3, prompts=("prompt",))
llama3_ultra = partial(AnsweredPair, style=LLAMA3)


def _first(row: Row, fields: tuple[str, ...]) -> str:
    """The text in the first of `fields` that the row has."""
    return text(row, next((field for field in fields if field in row.values), fields[0]))


def _content(row: Row, message: Message, field: str) -> str:
    if message.content is None:
        raise row.error(
            "the answer has no text", "this format writes texts; use chat_template for tool calls", field=field
        )
    return message.content
