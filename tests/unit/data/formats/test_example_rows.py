"""Example rows stand under the entry's own names, so that any recipe can be tried without its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.data.formats.format import Setting
from axo.data.messages import Conversation, Segments, Tokens
from axo.data.rows import Row
from axo.recipe.data import DatasetEntry
from axo.recipe.data_types import format_name
from axo.registry.tables import DATASET_FORMATS

PROMPTS = Path(__file__).parents[3] / "assets" / "prompts_of_2023.yaml"
CASES: list[dict[str, Any]] = yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))
ENTRIES: dict[str, tuple[dict[str, Any], set[str]]] = {
    **{case["type"]: ({"type": case["type"]}, set(case["row"])) for case in reversed(CASES)},
    # Its answer ends before what is `corrected`.
    "reflection:chat": ({"type": "reflection:chat"}, {"instruction", "input", "output", "reflection"}),
    "completion": ({"type": "completion"}, {"text"}),
    "completion, other column": ({"type": "completion", "field": "body"}, {"body"}),
    "input_output": ({"type": "input_output"}, {"segments"}),
    "mapping": ({"type": {}}, {"instruction", "input", "output"}),
    "mapping, other columns": (
        {"type": {"field_instruction": "q", "field_output": "a", "field_input": "given", "field_system": "sys"}},
        {"q", "a", "given", "sys"},
    ),
    "mapping without input": ({"type": {"field_input": None}}, {"instruction", "output"}),
    "messages": ({"type": "messages"}, {"messages"}),
    "messages, other column": ({"type": "messages", "field_messages": "talk"}, {"talk"}),
    "pretrain": ({"type": "pretrain"}, {"text"}),
    "pretrain, other column": ({"type": "pretrain", "text_column": "body"}, {"body"}),
    "no type": ({}, {"input_ids", "attention_mask", "labels"}),
    "_synthetic": ({"type": "_synthetic"}, {"input_ids"}),
    "pygmalion": ({"type": "pygmalion"}, {"conversations"}),
    "llama2_chat": ({"type": "llama2_chat"}, {"conversations"}),
    "chat_template": ({"type": "chat_template"}, {"messages"}),
    "chat_template, other column": ({"type": "chat_template", "field_messages": "conversations"}, {"conversations"}),
}


def make_format(entry: dict[str, Any], tokenizer: Any = None) -> Any:
    section = DatasetEntry(path="x", **entry)
    return DATASET_FORMATS.load(format_name(section))(section, Setting(tokenizer=tokenizer, vocab_size=600))


def test_every_format_that_a_recipe_can_name_gives_example_rows() -> None:
    """But for code of the recipe's own, which gives its own or none."""
    covered = {format_name(DatasetEntry(path="x", **entry)) for entry, _ in ENTRIES.values()}
    assert covered == set(DATASET_FORMATS) - {"custom_code"}


@pytest.mark.parametrize("name", ENTRIES)
def test_example_rows_have_the_entrys_columns_and_are_read(name: str, tokenizer: Any) -> None:
    entry, columns = ENTRIES[name]
    form = make_format(entry, tokenizer)
    rows = form.example_rows(3)
    assert len(rows) == 3
    for row in rows:
        assert set(row) == columns
        found = form.read(Row(row, "x.jsonl", 1))
        if isinstance(found, Segments):
            assert any(trained and text for text, trained in found.parts)
        elif isinstance(found, Tokens):
            assert any(label != -100 for label in found.labels)
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
    assert found.messages[1].weight == (1.0 if "train" in keys[1] else None)
