"""type: messages: contents in parts, with calls and answers of tools, weights of messages and of parts."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.format import Setting
from axo.data.formats.internal_messages import InternalMessages
from axo.data.messages import Conversation, Detail
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.data import DatasetEntry


def read(messages: Any, *, field: str = "messages", **entry: Any) -> Conversation:
    form = InternalMessages(DatasetEntry(path="x", type="messages", **entry), Setting())
    return form.read(Row({field: messages}, "x.jsonl", 5))


def plain(conversation: Conversation) -> list[tuple[str, str | None, float | None]]:
    return [(message.role, message.content, message.weight) for message in conversation.messages]


@pytest.mark.parametrize(("role", "content"), [("role", "content"), ("from", "value"), ("role", "text")])
def test_keys_are_those_that_the_first_message_has(role: str, content: str) -> None:
    turns = [{role: "human", content: "Hi", "train": True}, {role: "gpt", content: "Ho", "train": False}]
    assert plain(read(turns)) == [("user", "Hi", 1.0), ("assistant", "Ho", 0.0)]


def test_keys_may_be_given() -> None:
    turns = [{"who": "user", "says": "Hi", "learn": 0}, {"who": "assistant", "says": "Ho", "learn": 0.5}]
    keys = {"message_property_mappings": {"role": "who", "content": "says"}, "message_field_training": "learn"}
    expected = [("user", "Hi", 0.0), ("assistant", "Ho", 0.5)]
    assert plain(read(turns, field="talk", field_messages="talk", **keys)) == expected
    short = {"message_field_role": "who", "message_field_content": "says", "message_field_training": "learn"}
    assert plain(read(turns, **short)) == expected


def test_parts_are_one_text_of_which_parts_of_weight_0_are_not_trained() -> None:
    parts = [
        {"type": "text", "value": "Let me see. ", "weight": 0},
        {"type": "text", "value": "42", "weight": 1},
        {"type": "text", "value": "!"},
    ]
    (message,) = read([{"role": "assistant", "content": parts}]).messages
    assert message.content == "Let me see. 42!"
    assert message.details == (Detail(0, 12, 0.0), Detail(12, 14, None), Detail(14, 15, None))


def test_calls_and_answers_of_tools_are_written_between_tags() -> None:
    call = {"type": "tool_call", "value": {"name": "add", "arguments": {"x": 1}, "id": "7"}}
    answer = {"type": "tool_response", "value": {"name": "add", "content": "2"}, "weight": 0}
    turns = [
        {"role": "assistant", "content": [{"type": "text", "value": "Adding. "}, call]},
        {"role": "tool", "content": [answer]},
    ]
    assert [message.content for message in read(turns).messages] == [
        'Adding. <tool_call>\n{"name": "add", "arguments": {"x": 1}, "id": "7"}\n</tool_call>\n',
        '<tool_response>\n{"name": "add", "content": "2"}\n</tool_response>\n',
    ]


WRONG = {
    "no list": ({"a": 1}, "messages", "found an object"),
    "an unknown role": ([{"role": "critic", "content": "x"}], "messages[0].role", "unknown role 'critic'"),
    "an image": (
        [{"role": "user", "content": [{"type": "image", "value": "x.png"}]}], "messages[0].content[0].type", "no text",
    ),
    "a call without a name": (
        [{"role": "user", "content": [{"type": "tool_call", "value": {"arguments": {}}}]}],
        "messages[0].content[0]", "expected an object with name and arguments",
    ),
    "a message that is text": ([{"role": "user", "content": "x"}, "Ho"], "messages[1]", "found text 'Ho'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_with_file_line_and_field(name: str) -> None:
    messages, field, says = WRONG[name]
    with pytest.raises(DataError) as refused:
        read(messages)
    assert (refused.value.file, refused.value.line, refused.value.field) == ("x.jsonl", 5, field)
    assert says in refused.value.message
