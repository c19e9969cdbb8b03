"""A column of a preference row as messages: a list, one message, or a text, with the data set's names in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from axo.data.formats.chat_template import ChatTemplate
from axo.data.formats.format import Setting
from axo.data.formats.message import MessageReader
from axo.data.messages import Conversation, Message
from axo.data.rows import Row, required

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

CHAT_KEYS = (*ChatTemplate.keys, "field_chosen", "field_rejected")
"""Keys of a data set's entry that formats of messages read."""


class MessageColumn:
    """Reads one column as `type: chat_template` reads its messages."""

    def __init__(
        self, entry: DatasetEntry, setting: Setting, *, field: str, speaker: str, default_system: bool = True
    ) -> None:
        """`speaker` is the role of a text; `default_system`: the recipe's default system message goes first."""
        self.field = field
        self._speaker = speaker
        own = entry.model_copy(update={"field_messages": field})
        self._names = MessageReader(own)
        self._format = ChatTemplate(own, setting if default_system else replace(setting, default_system_message=None))

    def conversation(self, row: Row) -> Conversation:
        """The column's messages, with the row's system message in front and its tools."""
        return self._format.read(self._with_list(row))

    def messages(self, row: Row) -> tuple[Message, ...]:
        """The column's messages alone."""
        if isinstance(row.values.get(self.field), dict):
            return (self._format.message(row, self.field),)
        return tuple(self._format.messages(self._with_list(row), self.field))

    def example(self, role: str, text: str) -> dict[str, Any]:
        """A message as the data set would write it."""
        return self._names.example(role, text)

    def _with_list(self, row: Row) -> Row:
        """The row with its column as a list."""
        value = required(row, self.field)
        if isinstance(value, str):
            value = [self._names.example(self._speaker, value)]
        elif isinstance(value, dict):
            value = [value]
        return Row({**row.values, self.field: value}, row.file, row.line)
