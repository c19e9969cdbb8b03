"""`type: chat_template`: a list of messages, rendered by the tokenizer's or a named chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.message import MessageReader, with_object
from axo.data.messages import Conversation, Message
from axo.data.rows import Row, decoded, describe, optional_text, required

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class ChatTemplate:
    keys: ClassVar[tuple[str, ...]] = (
        "field_messages", "field_system", "field_tools", "message_field_role", "message_field_content",
        "message_property_mappings", "message_field_training", "message_field_training_detail", "roles",
        "drop_system_message", "field_thinking", "template_thinking_key", "split_thinking",
    )  # fmt: skip
    chat: ClassVar[bool] = True

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._entry = entry
        self._default_system_message = setting.default_system_message
        self._reader = MessageReader(entry)

    def read(self, row: Row) -> Conversation:
        """The row's messages with the template's names for roles and properties, and its tools."""
        messages = self.with_system(row, self.messages(row, self._entry.field_messages))
        if not messages:
            hint = "remove the row, or set drop_system_message: false"
            message = "no message is left without the system message"
            raise row.error(message, hint, field=self._entry.field_messages)
        return Conversation(tuple(messages), self.tools(row))

    def messages(self, row: Row, field: str) -> list[Message]:
        """The messages that stand in `field`, a list or JSON of one."""
        found = decoded(row, required(row, field), field=field)
        if not isinstance(found, list) or not found:
            hint = self._reader.shape_hint()
            raise row.error(f"expected a list of messages, found {describe(found)}", hint, field=field)
        return self._reader.read_all(row, found, field)

    def message(self, row: Row, field: str) -> Message:
        """The one message that stands in `field`."""
        return self._reader.read(row, decoded(row, required(row, field), field=field), field)

    def with_system(self, row: Row, messages: list[Message]) -> list[Message]:
        """The system message of the row's own column or the recipe's default goes first; or all of them go."""
        field = self._entry.field_system
        own = optional_text(row, field) if field != self._entry.field_messages else ""
        if self._entry.drop_system_message:
            return [message for message in messages if message.role != "system"]
        if own:
            return [Message("system", own), *messages]
        if self._default_system_message is not None and all(message.role != "system" for message in messages):
            return [Message("system", self._default_system_message), *messages]
        return messages

    def tools(self, row: Row) -> list[dict[str, Any]] | None:
        """JSON schemas of the functions that the row offers."""
        field = self._entry.field_tools
        tools = row.values.get(field)
        tools = None if tools == "" else decoded(row, tools, field=field)
        if not tools:
            return None
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            message = f"expected a list of objects, found {describe(tools)}"
            hint = "give the functions as [{...}], or set field_tools to a column of another name"
            raise row.error(message, hint, field=field)
        return [with_object(row, tool, "parameters", f"{field}[{number}]") for number, tool in enumerate(tools)]

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        flag = self._entry.message_field_training
        trained = {} if flag is None else {flag: True}
        return [
            {
                self._entry.field_messages: [
                    self._reader.example("user", f"Add one to {number}."),
                    self._reader.example("assistant", str(number + 1)) | trained,
                ]
            }
            for number in range(count)
        ]
