"""One message of a row: its role, its text in one or in parts, what of it is trained, its thoughts and tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from axo.data.formats.parts import WEIGHT, Content, Text, joined_parts, part_weight, read_parts, share
from axo.data.messages import Detail, Message
from axo.data.rows import Row, decoded, describe
from axo.errors import DataError, Finding, RecipeError
from axo.registry.registry import did_you_mean

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

DEFAULT_ROLES = {"user": ["human", "user"], "assistant": ["gpt", "assistant"], "system": ["system"], "tool": ["tool"]}
_TEMPLATE_ROLES = ("system", "user", "assistant", "tool", "developer", "function", "ipython")
"""Roles that published chat templates read: always accepted as they are."""
_CALL = 'as in {"type": "function", "function": {"name": "...", ...}}'
_DETAIL = 'as in [{"begin_offset": 0, "end_offset": 4, "train": true}], characters counted from 0, the end included'
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Keys of a chain of thought, the first one that a message has (transformers reads the same)."""
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")


class MessageReader:
    """Reads messages under the names that a data set's entry gives."""

    def __init__(self, entry: DatasetEntry) -> None:
        """RecipeError where the entry contradicts itself."""
        self._entry = entry
        self.keys = _property_keys(entry)
        self._reasoning_key = entry.template_thinking_key or "reasoning_content"
        thoughts = (entry.field_thinking,) if entry.field_thinking else _REASONING
        self._thoughts = (self.keys.pop(self._reasoning_key, None) or thoughts[0], *thoughts)
        flags = (entry.message_field_training, entry.message_field_training_detail, WEIGHT)
        self._taken = {*self.keys.values(), *flags, *self._thoughts} - {None}
        self._roles = role_names(entry)
        self._plain_keys = self.keys["role"], self.keys["content"]
        """Those of a message that says nothing but who speaks and what."""
        self._knows_plain = len(set(self._plain_keys)) == 2 and not entry.split_thinking

    def read_all(self, row: Row, items: Sequence[Any], place: str) -> list[Message]:
        """The messages `items`, a list that stands at `place` of the row. DataError where one is wrong."""
        plain = self._plain
        return [plain(item) or self._read(row, item, f"{place}[{number}]") for number, item in enumerate(items)]

    def read(self, row: Row, item: Any, place: str) -> Message:
        """The message `item`, which stands at `place` of the row. DataError where it is wrong."""
        return self._plain(item) or self._read(row, item, place)

    def example(self, role: str, content: str) -> dict[str, Any]:
        """A message under the entry's own names."""
        names = (self._entry.roles or {}).get(role) or [role]
        return {self.keys["role"]: names[0], self.keys["content"]: content}

    def shape_hint(self) -> str:
        role, content = self.keys["role"], self.keys["content"]
        return f'a row is {{"{self._entry.field_messages}": [{{"{role}": "user", "{content}": "..."}}, ...]}}'

    def _plain(self, item: Any) -> Message | None:
        """The message, if it says nothing but who speaks and what, as most do."""
        if type(item) is not dict or len(item) != 2 or not self._knows_plain:
            return None
        role_key, content_key = self._plain_keys
        role, content = item.get(role_key), item.get(content_key)
        if not isinstance(role, str) or not isinstance(content, str) or role not in self._roles:
            return None
        return Message(self._roles[role], content)

    def _read(self, row: Row, item: Any, place: str) -> Message:
        """The same of any message."""
        if not isinstance(item, dict):
            raise row.error(f"expected a message (an object), found {describe(item)}", self.shape_hint(), field=place)
        extra = {key: value for key, value in item.items() if key not in self._taken and value is not None}
        extra |= {name: item[key] for name, key in self.keys.items() if item.get(key) is not None}
        role = self._role(row, item, extra.pop("role", None), place)
        if "tool_calls" in extra:
            extra["tool_calls"] = _tool_calls(
                row, extra["tool_calls"], f"{place}.{self.keys.get('tool_calls', 'tool_calls')}"
            )
        content = self._content(row, item, extra.pop("content", None), calls=extra.get("tool_calls"), place=place)
        text, thought = content.text, self._thought(row, item, place)
        if content.calls:
            extra["tool_calls"] = [*extra.get("tool_calls", ()), *content.calls]
        if content.reasoning.value is not None:
            if thought.value is not None:
                hint = "keep one of the two"
                raise row.error("the chain of thought stands in the content and beside it", hint, field=place)
            thought = content.reasoning
        message = Message(
            role,
            text.value,
            weight=self._weight(row, item, place),
            details=text.details or self._details(row, item, text.value, place),
            reasoning=thought.value,
            reasoning_details=thought.details,
            reasoning_key=self._reasoning_key,
            extra=extra,
        )
        return self._split(row, message, place) if self._entry.split_thinking and role == "assistant" else message

    def _role(self, row: Row, item: dict[str, Any], role: Any, place: str) -> str:
        if not isinstance(role, str):
            raise self._no_text(row, item, "role", "a role", place)
        if role not in self._roles:
            near = did_you_mean(role, self._roles)
            known = f"known: {', '.join(self._roles)}; others are named with `roles: {{target: [names]}}`"
            hint = f"{near} {known}" if near else known
            raise row.error(f"unknown role {role!r}", hint, field=f"{place}.{self.keys['role']}")
        return self._roles[role]

    def _content(self, row: Row, item: dict[str, Any], content: Any, *, calls: Any, place: str) -> Content:
        if isinstance(content, list):
            return read_parts(row, content, f"{place}.{self.keys['content']}")
        if not isinstance(content, str) and not (content is None and calls):
            raise self._no_text(row, item, "content", "text", place)
        return Content(Text(content), Text(None))

    def _thought(self, row: Row, item: dict[str, Any], place: str) -> Text:
        key = next((key for key in self._thoughts if item.get(key) is not None), None)
        if key is None:
            return Text(None)
        if isinstance(item[key], list):
            return joined_parts(row, list(enumerate(item[key])), f"{place}.{key}")
        if not isinstance(item[key], str):
            raise row.error(
                f"expected text, found {describe(item[key])}", "write it as one text in quotes", field=f"{place}.{key}"
            )
        return Text(item[key])

    def _weight(self, row: Row, item: dict[str, Any], place: str) -> float | None:
        key = self._entry.message_field_training
        if key is not None and item.get(key) is not None:
            return share(row, item[key], f"{place}.{key}", switch=True)
        if WEIGHT in self.keys.values() or item.get(WEIGHT) is None:
            return None
        return share(row, item[WEIGHT], f"{place}.{WEIGHT}", switch=False)

    def _details(self, row: Row, item: dict[str, Any], content: str | None, place: str) -> tuple[Detail, ...]:
        key = self._entry.message_field_training_detail
        found = None if key is None else item.get(key)
        if not found:
            return ()
        place = f"{place}.{key}"
        if not isinstance(found, list):
            raise row.error(f"expected a list, found {describe(found)}", _DETAIL, field=place)
        details = [_detail(row, one, len(content or ""), f"{place}[{at}]") for at, one in enumerate(found)]
        details.sort(key=lambda detail: detail.start)
        for one, following in pairwise(details):
            if following.start < one.end:
                message = f"two parts hold the character {following.start}"
                raise row.error(message, "let each part begin behind the end of the one before", field=place)
        return tuple(details)

    def _split(self, row: Row, message: Message, place: str) -> Message:
        """The thought that stands in the content as the chain of thought."""
        content = message.content or ""
        for opening, closing in _THOUGHTS:
            if opening in content and closing in content:
                if message.details:
                    hint = "set split_thinking: false, or give content and chain of thought apart"
                    raise row.error("parts of a content that split_thinking cuts cannot be told", hint, field=place)
                thought = content[content.find(opening) + len(opening) : content.find(closing)]
                rest = content[content.find(closing) + len(closing) :].lstrip()
                if all(mark in rest for mark in _SOLUTION):
                    rest = rest[rest.find(_SOLUTION[0]) + len(_SOLUTION[0]) : rest.find(_SOLUTION[1])].strip()
                return message._replace(content=rest, reasoning=thought.strip())
        return message

    def _no_text(self, row: Row, item: dict[str, Any], name: str, wanted: str, place: str) -> DataError:
        """The fault of a message whose role or content is missing or no text."""
        key = self.keys[name]
        if key not in item:
            there = f"the message has {', '.join(map(str, item)) or 'no field'}; {_key_hint(name)}"
            return row.error("this field is missing", there, field=f"{place}.{key}")
        hint = "write it as one text in quotes, or remove the row"
        return row.error(f"expected {wanted}, found {describe(item[key])}", hint, field=f"{place}.{key}")


def role_names(entry: DatasetEntry) -> dict[str, str]:
    """Each role that the entry's messages may have -> what the template calls it."""
    sources = entry.roles or DEFAULT_ROLES
    roles = {name: name for name in (*_TEMPLATE_ROLES, *sources, *(entry.roles_to_train or ()))}
    return roles | {source: target for target, names in sources.items() for source in names}


def _key_hint(name: str) -> str:
    return f"where messages have another key for it, say so with message_property_mappings: {{{name}: KEY}}"


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


def _detail(row: Row, detail: Any, length: int, place: str) -> Detail:
    if not isinstance(detail, dict):
        raise row.error(f"expected an object, found {describe(detail)}", _DETAIL, field=place)
    bounds: list[int] = []
    for name in ("begin_offset", "end_offset"):
        value = detail.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise row.error(
                f"expected a number of a character, found {describe(value)}", _DETAIL, field=f"{place}.{name}"
            )
        bounds.append(value)
    start, end = bounds
    if not 0 <= start <= end < length:
        message = f"the characters {start} to {end} do not lie in this content of {length} characters"
        raise row.error(message, _DETAIL, field=place)
    weight = part_weight(row, detail, place)
    if weight is None:
        raise row.error("this field is missing", _DETAIL, field=f"{place}.train")
    return Detail(start, end + 1, weight)


def _tool_calls(row: Row, calls: Any, place: str) -> list[dict[str, Any]]:
    calls = decoded(row, calls, field=place)
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise row.error(f"expected a list of tool calls (objects), found {describe(calls)}", _CALL, field=place)
    return [with_object(row, call, "arguments", f"{place}[{number}]") for number, call in enumerate(calls)]


def with_object(row: Row, item: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    """`item` with the `name` inside it (or inside its `function`) as an object where it was JSON in a string."""
    function = item.get("function")
    if isinstance(function, dict):
        return {**item, "function": with_object(row, function, name, f"{place}.function")}
    if function is not None:
        raise row.error(f"expected an object, found {describe(function)}", _CALL, field=f"{place}.function")
    if isinstance(item.get(name), str):
        return {**item, name: decoded(row, item[name], field=f"{place}.{name}")}
    return item
