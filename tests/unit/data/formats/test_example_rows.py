"""Example rows stand under the entry's own names, so that any recipe can be tried without its data."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.messages import Conversation, Segments
from axo.data.rows import Row
from axo.recipe.data import DatasetEntry
from axo.registry.tables import DATASET_FORMATS

ENTRIES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "alpaca": ({"type": "alpaca"}, {"instruction", "input", "output"}),
    "completion": ({"type": "completion"}, {"text"}),
    "completion, other column": ({"type": "completion", "field": "body"}, {"body"}),
    "input_output": ({"type": "input_output"}, {"segments"}),
    "mapping": ({"type": {}}, {"instruction", "input", "output"}),
    "mapping, other columns": (
        {"type": {"field_instruction": "q", "field_output": "a", "field_input": "given", "field_system": "sys"}},
        {"q", "a", "given", "sys"},
    ),
    "mapping without input": ({"type": {"field_input": None}}, {"instruction", "output"}),
    "chat_template": ({"type": "chat_template"}, {"messages"}),
    "chat_template, other column": ({"type": "chat_template", "field_messages": "conversations"}, {"conversations"}),
}


def make_format(entry: dict[str, Any]) -> Any:
    section = DatasetEntry(path="x", **entry)
    name = section.type if isinstance(section.type, str) else "mapping"
    return DATASET_FORMATS.load(name)(section, train_on_inputs=False, default_system_message=None)


@pytest.mark.parametrize("name", ENTRIES)
def test_example_rows_have_the_entrys_columns_and_are_read(name: str) -> None:
    entry, columns = ENTRIES[name]
    form = make_format(entry)
    rows = form.example_rows(3)
    assert len(rows) == 3
    for row in rows:
        assert set(row) == columns
        found = form.read(Row(row, "x.jsonl", 1))
        if isinstance(found, Segments):
            assert any(trained and text for text, trained in found.parts)
        else:
            assert isinstance(found, Conversation)
            assert [message.role for message in found.messages] == ["user", "assistant"]


MESSAGES: dict[str, tuple[dict[str, Any], list[set[str]], list[str]]] = {
    "the short keys": (
        {"message_field_role": "from", "message_field_content": "value"},
        [{"from", "value"}, {"from", "value"}],
        ["user", "assistant"],
    ),
    "the mappings": (
        {"message_property_mappings": {"role": "who", "content": "says", "reasoning_content": "thinks"}},
        [{"who", "says"}, {"who", "says"}],
        ["user", "assistant"],
    ),
    "role names of the data": (
        {"roles": {"user": ["me"], "assistant": ["bot", "gpt"]}, "message_field_role": "from"},
        [{"from", "content"}, {"from", "content"}],
        ["me", "bot"],
    ),
    "a flag for what is trained": (
        {"message_field_training": "train", "roles_to_train": []},
        [{"role", "content"}, {"role", "content", "train"}],
        ["user", "assistant"],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_example_messages_have_the_entrys_keys_and_role_names(name: str) -> None:
    entry, keys, roles = MESSAGES[name]
    form = make_format({"type": "chat_template", **entry})
    (row,) = form.example_rows(1)
    assert [set(message) for message in row["messages"]] == keys
    assert [next(value for value in message.values() if value in roles) for message in row["messages"]] == roles
    found = form.read(Row(row, "x.jsonl", 1))
    assert [message.role for message in found.messages] == ["user", "assistant"]
    assert found.messages[1].trained is (True if "train" in keys[1] else None)
