"""`axo init` looks at the first rows of a data file: which dataset format reads them?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from axo.data.rows import Row, describe
from axo.data.source import is_local, read_rows
from axo.errors import DataError
from axo.recipe.data import DatasetEntry

LOOK_AT_ROWS = 200


@dataclass(frozen=True)
class DataFormat:
    """How a recipe says what rows mean."""

    type: str | Mapping[str, str]
    """Name of a format, or a mapping of `field_*` keys."""
    why: str
    """What was recognised, in a few words."""
    used: tuple[str, ...]
    """Columns that the format reads."""
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further keys of the data set's entry."""


@dataclass(frozen=True)
class Look:
    format: DataFormat
    rows: int
    """Rows that were looked at."""
    all_rows: bool
    """There are no others."""
    unused: tuple[str, ...]


Columns = Mapping[str, Sequence[Any]]
"""Column -> its values in the rows, None where a row has none."""


def look(path: str) -> Look:
    """The format of a local file or folder. DataError where it cannot be read or holds no format that is known."""
    entry = DatasetEntry.model_validate({"path": path, "type": "completion"})
    if not path.strip() or not is_local(entry):
        raise DataError(
            "there is no such file or folder",
            "axo init looks at local data only: leave --data out for a data set of the hub, and fill it in",
            file=path,
        )
    rows = list(islice(read_rows(entry), LOOK_AT_ROWS + 1))
    seen = rows[:LOOK_AT_ROWS]
    columns = _columns(seen)
    found = recognise(columns, file=path)
    unused = tuple(name for name in columns if name not in found.used)
    return Look(found, rows=len(seen), all_rows=len(rows) == len(seen), unused=unused)


def recognise(columns: Columns, *, file: str) -> DataFormat:
    """The first format that fits all rows. DataError names the columns where none does."""
    preferences = {"chosen", "rejected"} <= set(columns)
    for find in () if preferences else _FINDERS:
        found = find(columns, file)
        if found is not None:
            return found
    there = ", ".join(f"{name} ({_kind(values)})" for name, values in columns.items()) or "none"
    hint = (
        "axo init knows messages or conversations (lists of messages), segments, instruction and output, question and "
        "answer or the like, text"
    )
    if preferences:
        hint = f"chosen and rejected are pairs of preferences: axo init writes recipes for answers only; {hint}"
    raise DataError(f"no format fits all rows looked at; the columns are {there}", hint, file=file)


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row.values)
    return {name: [row.values.get(name) for row in rows] for name in names}


def _messages(columns: Columns, file: str) -> DataFormat | None:
    found = {name: pair for name, values in columns.items() if (pair := _message_keys(values)) is not None}
    named = [name for name in _MESSAGE_COLUMNS if name in found]
    if not named and len(found) != 1:
        return None
    column = named[0] if named else next(iter(found))
    role, content = found[column]
    keys: dict[str, Any] = {"field_messages": column}
    if (role, content) != ("role", "content"):
        keys["message_property_mappings"] = {"role": role, "content": content}
    seen = {str(item[role]) for value in columns[column] for item in _items(value)}
    if not any(_ROLE_WORDS.get(name.lower()) == "assistant" for name in seen):
        message = f"no message has a role that is trained; the roles are {', '.join(sorted(seen)[:8])}"
        raise DataError(message, "some message must be of the role assistant or gpt", file=file, field=column)
    if roles := _roles(seen, column, file):
        keys["roles"] = roles
    why = f"column {column}: messages of {role} and {content}"
    return DataFormat("chat_template", why, (column, "system", "tools"), keys)


def _message_keys(values: Sequence[Any]) -> tuple[str, str] | None:
    """The keys of role and content, where every value is a list of messages."""
    lists = [_items(value) for value in values]
    if not lists or not all(lists):
        return None
    items = [item for one in lists for item in one]
    for role in _ROLE_KEYS:
        for content in _CONTENT_KEYS:
            if all(isinstance(item.get(role), str) for item in items) and any(content in item for item in items):
                return role, content
    return None


def _items(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, which may stand as JSON in a text; [] where it is anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return value if isinstance(value, list) and all(isinstance(item, dict) for item in value) else []


def _roles(seen: set[str], column: str, file: str) -> dict[str, list[str]] | None:
    """`roles` of the entry, where the data names some that a chat template does not have."""
    new = sorted(seen - _KNOWN_ROLES)
    strange = [role for role in new if role.lower() not in _ROLE_WORDS]
    if strange:
        message = f"the messages have roles that axo init cannot place: {', '.join(strange[:8])}"
        hint = "rename them, or write the recipe by hand with `roles:`, e.g. roles: {assistant: [bot], user: [caller]}"
        raise DataError(message, hint, file=file, field=column)
    roles = {target: list(names) for target, names in _TARGETS.items()}
    for role in new:
        roles[_ROLE_WORDS[role.lower()]].append(role)
    return roles if new else None


def _segments(columns: Columns, file: str) -> DataFormat | None:
    lists = [_items(value) if isinstance(value, list) else [] for value in columns.get("segments", ())]
    if not lists or not all(one and all({"text", "label"} <= set(item) for item in one) for one in lists):
        return None
    return DataFormat("input_output", "column segments: texts, each trained or not", ("segments",))


def _instructions(columns: Columns, file: str) -> DataFormat | None:
    if not _texts(columns, "instruction") or not _texts(columns, "output") or _any_text(columns, _SYSTEMS):
        return None
    names = tuple(name for name in ("instruction", "input", "output") if name in columns)
    return DataFormat("alpaca", f"columns {', '.join(names)}", ("instruction", "input", "output"))


def _pairs(columns: Columns, file: str) -> DataFormat | None:
    answer = next((name for name in _ANSWERS if _texts(columns, name)), None)
    question = next((name for name in _QUESTIONS if _texts(columns, name)), None)
    if answer is None or question is None:
        return None
    given = _any_text(columns, [name for name in _CONTEXTS if name != question])
    system = _any_text(columns, _SYSTEMS)
    mapping = {"field_instruction": question, "field_output": answer}
    if system:
        mapping |= {"field_system": system, "system_format": "{system}\n\n"}
    mapping["format"] = "{instruction}\n\n"
    if given:
        mapping |= {
            "field_input": given,
            "format": "{instruction}\n\n{input}\n\n",
            "no_input_format": mapping["format"],
        }
    used = tuple(name for name in (question, given, system, answer) if name)
    return DataFormat(mapping, f"columns {', '.join(used)}", used)


def _text(columns: Columns, file: str) -> DataFormat | None:
    name = "text" if _texts(columns, "text") else next(iter(columns)) if len(columns) == 1 else ""
    if not _texts(columns, name):
        return None
    return DataFormat("completion", f"column {name}: plain text", (name,), {} if name == "text" else {"field": name})


def _texts(columns: Columns, name: str) -> bool:
    """Whether every row has a text there."""
    values = columns.get(name, ())
    return bool(values) and all(isinstance(value, str) for value in values)


def _any_text(columns: Columns, names: Iterable[str]) -> str | None:
    """The first of these columns that holds nothing but texts where it holds anything."""
    for name in names:
        values = [value for value in columns.get(name, ()) if value is not None]
        if any(values) and all(isinstance(value, str) for value in values):
            return name
    return None


def _kind(values: Sequence[Any]) -> str:
    value = next((value for value in values if value is not None), None)
    some = "" if all(value is not None for value in values) or value is None else ", not in every row"
    return (_KINDS.get(type(value)) or describe(value)) + some


_KINDS: Mapping[type, str] = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list"}
_MESSAGE_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
_ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
_CONTENT_KEYS = ("content", "value", "text", "message")
_KNOWN_ROLES = frozenset("system user assistant tool human gpt developer function ipython".split())
"""Roles that `type: chat_template` reads without `roles`."""
_TARGETS: Mapping[str, Sequence[str]] = {
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt"),
    "system": ("system",),
    "tool": ("tool",),
}
_ROLE_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("user", "human", "customer", "prompter", "person", "student", "patient", "question"), "user"),
    **dict.fromkeys(
        (
            "assistant",
            "gpt",
            "bot",
            "chatbot",
            "model",
            "ai",
            "agent",
            "chatgpt",
            "bing",
            "bard",
            "answer",
            "function_call",
        ),
        "assistant",
    ),
    **dict.fromkeys(("system", "instruction"), "system"),
    **dict.fromkeys(("tool", "observation"), "tool"),
}
"""Other words for the roles of a chat template."""
_QUESTIONS = ("instruction", "prompt", "question", "query", "problem", "user", "input", "source")
_ANSWERS = ("output", "response", "answer", "completion", "solution", "target", "reply", "assistant")
_CONTEXTS = ("input", "context", "passage", "document")
_SYSTEMS = ("system", "system_prompt")
_FINDERS: tuple[Callable[[Columns, str], DataFormat | None], ...] = (
    _messages,
    _segments,
    _instructions,
    _pairs,
    _text,
)
