"""`type: chat_template`: a list of messages, rendered by the tokenizer's or a named chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.messages import Conversation, Message
from axo.data.rows import Row, decoded, describe, optional_text, required
from axo.errors import DataError, Finding, RecipeError
from axo.registry.registry import did_you_mean

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_DEFAULT_ROLES = {"user": ["human", "user"], "assistant": ["gpt", "assistant"], "system": ["system"], "tool": ["tool"]}
_TEMPLATE_ROLES = ("system", "user", "assistant", "tool", "developer", "function", "ipython")
"""Roles that published chat templates read: always accepted as they are."""
_CALL = 'as in {"type": "function", "function": {"name": "...", ...}}'


class ChatTemplate:
    keys: ClassVar[tuple[str, ...]] = (
        "field_messages", "field_system", "field_tools", "message_field_role", "message_field_content",
        "message_property_mappings", "message_field_training", "roles", "drop_system_message",
    )  # fmt: skip

    def __init__(self, entry: DatasetEntry, *, train_on_inputs: bool, default_system_message: str | None) -> None:
        self._entry = entry
        self._default_system_message = default_system_message
        self._keys = _property_keys(entry)
        self._taken = {*self._keys.values(), entry.message_field_training} - {None}
        sources = entry.roles or _DEFAULT_ROLES
        names = (*_TEMPLATE_ROLES, *sources, *(entry.roles_to_train or ()))
        self._roles = {name: name for name in names}
        self._roles |= {source: target for target, names in sources.items() for source in names}

    def read(self, row: Row) -> Conversation:
        """The row's messages with the template's names for roles and properties, and its tools."""
        field = self._entry.field_messages
        found = decoded(row, required(row, field), field=field)
        if not isinstance(found, list) or not found:
            raise row.error(f"expected a list of messages, found {describe(found)}", self._shape_hint(), field=field)
        messages = [self._message(row, item, f"{field}[{number}]") for number, item in enumerate(found)]
        messages = self._with_system(row, messages)
        if not messages:
            hint = "remove the row, or set drop_system_message: false"
            raise row.error("no message is left without the system message", hint, field=field)
        return Conversation(tuple(messages), self._tools(row))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        flag = self._entry.message_field_training
        trained = {} if flag is None else {flag: True}
        return [
            {
                self._entry.field_messages: [
                    self._example_message("user", f"Add one to {number}."),
                    self._example_message("assistant", str(number + 1)) | trained,
                ]
            }
            for number in range(count)
        ]

    def _example_message(self, role: str, content: str) -> dict[str, Any]:
        names = (self._entry.roles or {}).get(role) or [role]
        return {self._keys["role"]: names[0], self._keys["content"]: content}

    def _message(self, row: Row, item: Any, place: str) -> Message:
        if not isinstance(item, dict):
            message = f"expected a message (an object), found {describe(item)}"
            raise row.error(message, self._shape_hint(), field=place)
        extra = {key: value for key, value in item.items() if key not in self._taken and value is not None}
        extra |= {name: item[key] for name, key in self._keys.items() if item.get(key) is not None}
        role = self._role(row, item, extra.pop("role", None), place)
        if "tool_calls" in extra:
            key = self._keys.get("tool_calls", "tool_calls")
            extra["tool_calls"] = _tool_calls(row, extra["tool_calls"], f"{place}.{key}")
        content = extra.pop("content", None)
        if not isinstance(content, str) and not (content is None and extra.get("tool_calls")):
            raise self._no_text(row, item, "content", "text", place)
        return Message(role, content, self._trained(row, item, place), extra)

    def _role(self, row: Row, item: dict[str, Any], role: Any, place: str) -> str:
        if not isinstance(role, str):
            raise self._no_text(row, item, "role", "a role", place)
        if role not in self._roles:
            near = did_you_mean(role, self._roles)
            known = f"known: {', '.join(self._roles)}; others are named with `roles: {{target: [names]}}`"
            hint = f"{near} {known}" if near else known
            raise row.error(f"unknown role {role!r}", hint, field=f"{place}.{self._keys['role']}")
        return self._roles[role]

    def _no_text(self, row: Row, item: dict[str, Any], name: str, wanted: str, place: str) -> DataError:
        """The fault of a message whose role or content is missing or no text."""
        key = self._keys[name]
        if key not in item:
            there = f"the message has {', '.join(map(str, item)) or 'no field'}; {self._key_hint(name)}"
            return row.error("this field is missing", there, field=f"{place}.{key}")
        hint = "write it as one text in quotes, or remove the row"
        return row.error(f"expected {wanted}, found {describe(item[key])}", hint, field=f"{place}.{key}")

    def _key_hint(self, name: str) -> str:
        return f"where messages have another key for it, say so with message_property_mappings: {{{name}: KEY}}"

    def _shape_hint(self) -> str:
        role, content = self._keys["role"], self._keys["content"]
        return f'a row is {{"{self._entry.field_messages}": [{{"{role}": "user", "{content}": "..."}}, ...]}}'

    def _trained(self, row: Row, item: dict[str, Any], place: str) -> bool | None:
        key = self._entry.message_field_training
        value = None if key is None else item.get(key)
        if value is not None and not isinstance(value, bool):
            message = f"expected true or false, found {describe(value)}"
            raise row.error(message, "write true, false or null, without quotes", field=f"{place}.{key}")
        return value

    def _with_system(self, row: Row, messages: list[Message]) -> list[Message]:
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

    def _tools(self, row: Row) -> list[dict[str, Any]] | None:
        field = self._entry.field_tools
        tools = row.values.get(field)
        tools = None if tools == "" else decoded(row, tools, field=field)
        if not tools:
            return None
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            message = f"expected a list of objects, found {describe(tools)}"
            hint = "give the functions as [{...}], or set field_tools to a column of another name"
            raise row.error(message, hint, field=field)
        return [_with_object(row, tool, "parameters", f"{field}[{number}]") for number, tool in enumerate(tools)]


def _property_keys(entry: DatasetEntry) -> dict[str, str]:
    """The template's property -> the message's key, with role and content always there."""
    keys = dict(entry.message_property_mappings or {})
    for name, key in (("role", entry.message_field_role), ("content", entry.message_field_content)):
        if key is None:
            keys.setdefault(name, name)
        elif keys.setdefault(name, key) != key:
            finding = Finding(
                f"datasets.message_field_{name}",
                f"{key!r} contradicts message_property_mappings.{name}, {keys[name]!r}",
                "keep one of the two",
            )
            raise RecipeError([finding])
    return keys


def _tool_calls(row: Row, calls: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise row.error(f"expected a list of tool calls (objects), found {describe(calls)}", _CALL, field=place)
    return [_with_object(row, call, "arguments", f"{place}[{number}]") for number, call in enumerate(calls)]


def _with_object(row: Row, item: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    """`item` with the `name` inside it (or inside its `function`) as an object where it was JSON in a string."""
    function = item.get("function")
    if isinstance(function, dict):
        return {**item, "function": _with_object(row, function, name, f"{place}.function")}
    if function is not None:
        raise row.error(f"expected an object, found {describe(function)}", _CALL, field=f"{place}.function")
    if isinstance(item.get(name), str):
        return {**item, name: decoded(row, item[name], field=f"{place}.{name}")}
    return item
