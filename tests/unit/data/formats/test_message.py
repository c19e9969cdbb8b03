"""One message of a row: parts, weights, thoughts, and every fault with its place."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.message import MessageReader, role_names
from axo.data.messages import Detail, Message
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.data import DatasetEntry


def read(item: Any, **entry: Any) -> Message:
    reader = MessageReader(DatasetEntry(path="x", type="chat_template", **entry))
    return reader.read(Row({}, "x.jsonl", 7), item, "messages[0]")


def bot(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


def test_parts_become_one_text_and_what_is_said_of_each() -> None:
    parts = [
        {"type": "text", "text": "ab", "train": True},
        {"text": ""},
        {"content": "c"},
        {"value": "de", "weight": 0.5},
    ]
    found = read(bot(parts))
    assert found.content == "abcde"
    assert found.details == (Detail(0, 2, 1.0), Detail(2, 3, None), Detail(3, 5, 0.5))
    assert read(bot([{"text": "ab"}, {"text": "c"}])).details == ()


def test_the_end_of_a_part_belongs_to_it() -> None:
    details = [
        {"begin_offset": 3, "end_offset": 4, "train": False},
        {"begin_offset": 0, "end_offset": 2, "train": True},
    ]
    found = read(bot("abcde", d=details), message_field_training_detail="d")
    assert found.details == (Detail(0, 3, 1.0), Detail(3, 5, 0.0))


@pytest.mark.parametrize(
    ("keys", "entry", "weight"),
    [
        ({"train": True}, {"message_field_training": "train"}, 1.0),
        ({"train": False}, {"message_field_training": "train"}, 0.0),
        ({"train": 0.3}, {"message_field_training": "train"}, 0.3),
        ({"train": None, "weight": 0}, {"message_field_training": "train"}, 0.0),
        ({"train": True, "weight": 0}, {"message_field_training": "train"}, 1.0),
        ({"train": False}, {}, None),
        ({"weight": 2}, {}, 2.0),
        ({}, {}, None),
    ],
)
def test_a_weight_of_the_message(keys: dict[str, Any], entry: dict[str, Any], weight: float | None) -> None:
    assert read(bot("x", **keys), **entry).weight == weight


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_a_thought_under_any_of_its_names(key: str) -> None:
    found = read(bot("x", **{key: "T"}))
    assert (found.reasoning, found.reasoning_key, found.extra) == ("T", "reasoning_content", {})
    assert read(bot("x", **{key: [{"text": "T"}, {"text": "U", "train": False}]})).reasoning_details == (
        Detail(0, 1, None), Detail(1, 2, 0.0),
    )  # fmt: skip


def test_split_thinking_leaves_other_roles_and_plain_contents_alone() -> None:
    assert read(bot("no thought"), split_thinking=True).reasoning is None
    said = {"role": "user", "content": "<think>T</think>x"}
    assert read(said, split_thinking=True).content == said["content"]


def test_roles_are_called_as_the_template_calls_them() -> None:
    names = role_names(
        DatasetEntry(path="x", type="chat_template", roles={"assistant": ["bot"]}, roles_to_train=["me"])
    )
    assert (names["bot"], names["assistant"], names["me"]) == ("assistant", "assistant", "me")


DETAIL: dict[str, Any] = {"begin_offset": 0, "end_offset": 0, "train": True}
DETAILS = {"message_field_training_detail": "d"}
WRONG: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "an image": (bot([{"type": "image", "url": "x"}]), {}, "content[0].type", "this part is no text"),
    "a part without text": (bot([{"type": "text"}]), {}, "content[0]", "this part has no text"),
    "a flag in quotes": (bot([{"text": "a", "train": "no"}]), {}, "content[0].train", "expected true, false"),
    "a negative weight": (bot("x", weight=-1), {}, "weight", "a number of at least 0"),
    "a weight that is no number": (bot("x", weight=True), {}, "weight", "a number of at least 0"),
    "no list": (bot("x", d=1), DETAILS, "d", "expected a list"),
    "beyond the end": (
        bot("x", d=[{**DETAIL, "end_offset": 1}]), DETAILS, "d[0]", "do not lie in"
    ),
    "overlap": (bot("xy", d=[DETAIL, DETAIL]), DETAILS, "d", "two parts hold"),
    "no flag": (
        bot("x", d=[{"begin_offset": 0, "end_offset": 0}]), DETAILS, "d[0].train", "missing"
    ),
    "half an offset": (
        bot("x", d=[{**DETAIL, "end_offset": 0.5}]), DETAILS, "d[0].end_offset", "a number"
    ),
    "a thought that is a number": (bot("x", reasoning_content=3), {}, "reasoning_content", "expected text"),
    "parts and split_thinking": (
        bot("<think>T</think>x", d=[DETAIL]),
        {**DETAILS, "split_thinking": True},
        "",
        "split_thinking cuts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_message_is_refused_with_its_place(name: str) -> None:
    item, entry, field, says = WRONG[name]
    with pytest.raises(DataError) as refused:
        read(item, **entry)
    assert refused.value.field == f"messages[0].{field}".rstrip(".")
    assert says in refused.value.message
    assert refused.value.hint
