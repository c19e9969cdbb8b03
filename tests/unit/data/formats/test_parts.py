"""Contents in parts: thoughts and tool calls among the texts go where a chat template reads them."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.chat_template import ChatTemplate
from axo.data.formats.format import Setting
from axo.data.messages import Detail, Message
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.data import DatasetEntry

CALL = {"type": "tool_call", "value": '{"name": "area", "arguments": {"radius": 2}}'}
WRITTEN = {"type": "function", "function": {"name": "area", "arguments": {"radius": 2}}}


def read(*parts: Any, **message: Any) -> Message:
    form = ChatTemplate(DatasetEntry(path="x", type="chat_template"), Setting())
    row = Row({"messages": [{"role": "assistant", "content": list(parts), **message}]}, "x.jsonl", 3)
    return form.read(row).messages[0]


def test_thoughts_texts_and_calls_are_told_apart() -> None:
    found = read({"type": "reasoning", "value": "Hm. "}, {"type": "text", "value": "So: "}, CALL, {"text": "2"})
    assert (found.content, found.reasoning, found.extra) == ("So: 2", "Hm. ", {"tool_calls": [WRITTEN]})
    assert found.details == found.reasoning_details == ()


def test_a_turn_of_calls_alone_has_no_content() -> None:
    assert read(CALL, CALL).content is None
    assert read(CALL, CALL).extra == {"tool_calls": [WRITTEN, WRITTEN]}


@pytest.mark.parametrize(
    "call",
    [
        {"type": "tool_call", "value": {"name": "area", "arguments": '{"radius": 2}'}},
        {"type": "function_call", "function": {"name": "area", "arguments": {"radius": 2}}},
        {"type": "tool_use", "name": "area", "input": {"radius": 2}},
    ],
)
def test_a_call_may_be_written_in_other_ways(call: dict[str, Any]) -> None:
    assert read(call).extra == {"tool_calls": [WRITTEN]}


def test_flags_of_thoughts_stay_with_them() -> None:
    found = read({"type": "thinking", "thinking": "Hm", "train": False}, {"type": "text", "text": "Two", "weight": 0.5})
    assert (found.reasoning_details, found.details) == ((Detail(0, 2, 0.0),), (Detail(0, 3, 0.5),))


@pytest.mark.parametrize(
    ("parts", "more", "place", "words"),
    [
        ([{**CALL, "train": False}], {}, "messages[0].content[0].train", "no flag of its own"),
        ([{"type": "tool_call", "value": "{"}], {}, "messages[0].content[0].value", "expected JSON"),
        ([{"type": "tool_call", "value": {"x": 1}}], {}, "messages[0].content[0]", "expected a tool call"),
        ([{"type": "image", "url": "x"}], {}, "messages[0].content[0].type", "no text but text 'image'"),
        ([{"type": "reasoning", "value": "a"}], {"reasoning_content": "b"}, "messages[0]", "stands in the content and"),
        ([{"type": "reasoning"}], {}, "messages[0].content[0]", "this part has no text"),
    ],
)
def test_a_wrong_part_is_refused_with_its_place(parts: Any, more: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(DataError) as refused:
        read(*parts, **more)
    assert str(refused.value).startswith(f"x.jsonl:3:{place}: ")
    assert words in str(refused.value)
