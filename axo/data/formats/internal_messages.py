"""`type: messages`: messages whose content may stand in parts, with calls and answers of tools among them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.message import MessageReader
from axo.data.messages import Conversation, Message
from axo.data.rows import Row, decoded, describe, required

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("value", "text", "content")
_FLAG_KEYS = ("train", "weight")
_ROLES = {
    "system": ["system"],
    "user": ["user", "human"],
    "assistant": ["assistant", "gpt"],
    "tool": ["tool"],
    "ipython": ["ipython"],
}
_TAGS = {"tool_call": "arguments", "tool_response": "content"}
"""Kind of part that becomes text between tags of its name -> what its value holds beside name and id."""


class InternalMessages:
    keys: ClassVar[tuple[str, ...]] = (
        "field_messages", "message_field_role", "message_field_content", "message_property_mappings",
        "message_field_training", "input_transform",
    )  # fmt: skip
    chat: ClassVar[bool] = True

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._entry = entry
        self._field = entry.field_messages
        named = entry.message_property_mappings or {}
        self._role = _one(entry.message_field_role or named.get("role"), _ROLE_KEYS)
        self._content = _one(entry.message_field_content or named.get("content"), _CONTENT_KEYS)
        self._flag = _one(entry.message_field_training, _FLAG_KEYS)
        self._readers: dict[tuple[str, str, str], MessageReader] = {}

    def read(self, row: Row) -> Conversation:
        """The row's messages, whose keys are those that its first message has."""
        found = decoded(row, required(row, self._field), field=self._field)
        if not isinstance(found, list) or not found or not isinstance(found[0], dict):
            hint = f'a row is {{"{self._field}": [{{"{self._role[0]}": "user", "{self._content[0]}": "..."}}, ...]}}'
            raise row.error(f"expected a list of messages, found {describe(found)}", hint, field=self._field)
        content = _present(found[0], self._content)
        reader = self._reader(_present(found[0], self._role), content, _present(found[0], self._flag))
        messages: list[Message] = []
        for number, item in enumerate(found):
            place = f"{self._field}[{number}]"
            messages.append(_as_its_turn(reader.read(row, _with_texts(row, item, content, place), place)))
        return Conversation(tuple(messages))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        role, content = self._role[0], self._content[0]
        return [
            {
                self._field: [
                    {role: "user", content: f"Add one to {number}."},
                    {role: "assistant", content: [{"type": "text", "value": str(number + 1)}]},
                ]
            }
            for number in range(count)
        ]

    def _reader(self, role: str, content: str, flag: str) -> MessageReader:
        if (role, content, flag) not in self._readers:
            names = {"message_field_role": role, "message_field_content": content, "message_field_training": flag}
            unset = ("message_property_mappings", "message_field_training_detail", "roles_to_train")
            entry = self._entry.model_copy(update={**dict.fromkeys(unset), **names, "roles": _ROLES})
            self._readers[role, content, flag] = MessageReader(entry)
        return self._readers[role, content, flag]


def _one(name: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    return names if name is None else (name,)


def _present(message: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in message), names[0])


def _as_its_turn(message: Message) -> Message:
    """The message with its parts of weight 1 trained as it is: they do not train a turn that is not."""
    details = tuple(replace(part, weight=None) if part.weight == 1 else part for part in message.details)
    return message._replace(details=details)


def _with_texts(row: Row, item: Any, key: str, place: str) -> Any:
    """The message with the calls and answers of tools among the parts of its content written as text."""
    if not isinstance(item, dict) or not isinstance(item.get(key), list):
        return item
    parts = [_as_text(row, part, f"{place}.{key}[{number}]") for number, part in enumerate(item[key])]
    return {**item, key: parts}


def _as_text(row: Row, part: Any, place: str) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in _TAGS:
        return part
    value, inner = part.get("value"), _TAGS[kind]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or inner not in value:
        hint = f'as in {{"type": "{kind}", "value": {{"name": "...", "{inner}": ...}}}}'
        raise row.error(f"expected an object with name and {inner}, found {describe(value)}", hint, field=place)
    said = {key: value[key] for key in ("name", inner, "id") if value.get(key) is not None}
    rest = {key: part[key] for key in _FLAG_KEYS if key in part}
    return {"type": "text", "text": f"<{kind}>\n{json.dumps(said)}\n</{kind}>\n", **rest}
