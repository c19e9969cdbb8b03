"""Rows of messages: roles, keys, flags, system messages and tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from axo.data.formats.chat_template import ChatTemplate
from axo.data.formats.format import Setting
from axo.data.messages import Conversation, Message
from axo.data.rows import Row
from axo.errors import DataError, RecipeError
from axo.recipe.data import DatasetEntry


def read(values: dict[str, Any], *, default_system_message: str | None = None, **entry: Any) -> Conversation:
    section = DatasetEntry(path="x", type="chat_template", **entry)
    form = ChatTemplate(section, Setting(default_system_message=default_system_message))
    return form.read(Row(values, "x.jsonl", 7))


USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}


def plain(conversation: Conversation) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in conversation.messages]


@pytest.mark.parametrize(
    ("source", "role"),
    [("human", "user"), ("user", "user"), ("gpt", "assistant"), ("assistant", "assistant"), ("system", "system"),
     ("tool", "tool"), ("developer", "developer")],
)  # fmt: skip
def test_roles_have_the_names_of_templates(source: str, role: str) -> None:
    assert plain(read({"messages": [{"role": source, "content": "x"}]})) == [(role, "x")]


def test_given_roles_take_the_place_of_the_default_ones() -> None:
    roles = {"assistant": ["bot"], "user": ["me", "you"]}
    turns = [{"role": name, "content": name} for name in ("me", "you", "bot")]
    assert [role for role, _ in plain(read({"messages": turns}, roles=roles))] == ["user", "user", "assistant"]
    with pytest.raises(DataError, match="unknown role 'human'"):
        read({"messages": [{"role": "human", "content": "x"}]}, roles=roles)


@pytest.mark.parametrize(
    "keys",
    [
        {"message_field_role": "from", "message_field_content": "value"},
        {"message_property_mappings": {"role": "from", "content": "value"}},
        {"message_property_mappings": {"role": "from", "content": "value"}, "message_field_role": "from"},
    ],
)
def test_messages_may_have_other_keys(keys: dict[str, Any]) -> None:
    turns = [{"from": "human", "value": "Hi", "role": "not read"}, {"from": "gpt", "value": "Ho"}]
    found = read({"talk": turns}, field_messages="talk", **keys)
    assert plain(found) == [("user", "Hi"), ("assistant", "Ho")]


def test_two_keys_for_one_property_contradict() -> None:
    with pytest.raises(RecipeError, match="contradicts"):
        read({}, message_property_mappings={"role": "from"}, message_field_role="speaker")


def test_other_properties_go_to_the_template_mapped_or_as_they_are() -> None:
    turn = {"role": "assistant", "content": "Ho", "thoughts": "Hm", "name": "Bo", "nothing": None, "train": True}
    found = read(
        {"messages": [turn]},
        message_property_mappings={"reasoning_content": "thoughts"},
        message_field_training="train",
    )
    assert found.messages[0] == Message("assistant", "Ho", 1.0, reasoning="Hm", extra={"name": "Bo"})


def test_messages_may_be_json_in_a_string() -> None:
    assert plain(read({"messages": json.dumps([USER, ASSISTANT])})) == [("user", "Hi"), ("assistant", "Ho")]


def test_system_messages_come_from_a_column_a_default_or_are_left_out() -> None:
    own = {"role": "system", "content": "own"}
    rest = [("user", "Hi"), ("assistant", "Ho")]
    turns = [USER, ASSISTANT]
    assert plain(read({"messages": turns, "system": "column"})) == [("system", "column"), *rest]
    assert plain(read({"messages": turns, "sys": "column"}, field_system="sys")) == [("system", "column"), *rest]
    assert plain(read({"messages": turns, "system": None})) == rest
    assert plain(read({"messages": turns}, default_system_message="default")) == [("system", "default"), *rest]
    assert plain(read({"messages": [own, *turns]}, default_system_message="default")) == [("system", "own"), *rest]
    column = {"messages": turns, "system": "column"}
    assert plain(read(column, default_system_message="default")) == [("system", "column"), *rest]
    assert plain(read({"messages": [own, *turns], "system": "column"}, drop_system_message=True)) == rest


def test_tools_and_tool_calls_with_json_in_strings_become_objects() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": json.dumps(schema)}}
    call = {"type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    for tools in ([tool], json.dumps([tool])):
        found = read({"messages": [USER, turn], "functions": tools}, field_tools="functions")
        assert found.tools == [{"type": "function", "function": {"name": "add", "parameters": schema}}]
    expected = [{"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}]
    assert found.messages[1] == Message("assistant", None, extra={"tool_calls": expected})


@pytest.mark.parametrize("tools", [None, [], ""])
def test_no_tools_are_none(tools: Any) -> None:
    assert read({"messages": [USER], "tools": tools}).tools is None


WRONG = {
    "no messages": ({}, "messages", "missing"),
    "messages null": ({"messages": None}, "messages", "null"),
    "messages empty": ({"messages": []}, "messages", "a list of 0"),
    "messages a number": ({"messages": 3}, "messages", "the number 3"),
    "messages broken JSON": ({"messages": "[{"}, "messages", "expected JSON"),
    "a message that is text": ({"messages": [USER, "Ho"]}, "messages[1]", "found text 'Ho'"),
    "no role": ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing"),
    "role null": ({"messages": [{"role": None, "content": "Hi"}]}, "messages[0].role", "expected a role, found null"),
    "role a number": ({"messages": [{"role": 1, "content": "Hi"}]}, "messages[0].role", "found the number 1"),
    "an unknown role": ({"messages": [{"role": "asistant", "content": "x"}]}, "messages[0].role", "unknown role"),
    "no content": ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content", "missing"),
    "content null": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "found null"),
    "content a list": ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0]", "expected a part"),
    "content a number": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "the number 5"),
    "a flag that is text": ({"messages": [{**USER, "train": "no"}]}, "messages[0].train", "expected true, false or"),
    "tools an object": ({"messages": [USER], "tools": {"a": 1}}, "tools", "found an object"),
    "tools broken JSON": ({"messages": [USER], "tools": "[{"}, "tools", "expected JSON"),
    "tool calls text": ({"messages": [{**USER, "tool_calls": "f"}]}, "messages[0].tool_calls", "expected JSON"),
    "arguments broken JSON": (
        {"messages": [{**USER, "tool_calls": [{"function": {"arguments": "{x"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
        "expected JSON",
    ),
    "a tool call that is no object": (
        {"messages": [{**USER, "tool_calls": [{"function": "add"}]}]},
        "messages[0].tool_calls[0].function",
        "expected an object, found text 'add'",
    ),
    "half a character in JSON": ({"messages": '[{"role": "user", "content": "\\ud83d"}]'}, "messages", "surrogate"),
    "messages nested too deeply": ({"messages": "[" * 100_000}, "messages", "nested too deeply"),
    "system a number": ({"messages": [USER], "system": 5}, "system", "expected text"),
    "only a system message, dropped": ({"messages": [{"role": "system", "content": "x"}]}, "messages", "no message"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_with_file_line_and_field(name: str) -> None:
    row, field, says = WRONG[name]
    with pytest.raises(DataError) as refused:
        read(row, message_field_training="train", drop_system_message="dropped" in name)
    assert (refused.value.file, refused.value.line, refused.value.field) == ("x.jsonl", 7, field)
    assert says in refused.value.message
    assert refused.value.message.startswith(f"x.jsonl:7:{field}: ")
    assert refused.value.hint


def test_a_role_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(DataError) as refused:
        read({"messages": [{"role": "asistant", "content": "x"}]})
    assert "did you mean 'assistant'" in str(refused.value)
