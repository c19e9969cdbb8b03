"""Preferences as messages: which messages are the prompt, which are the answer, and whose names they have."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.format import Setting
from axo.data.messages import Compared, Conversation, Segments
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.data import DatasetEntry
from axo.registry.tables import PREFERENCE_FAMILIES, dataset_formats

ASK = {"role": "user", "content": "Why?"}


def says(text: str, role: str = "assistant") -> dict[str, str]:
    return {"role": role, "content": text}


def make(kind: str | None, objective: str = "dpo", *, system: str | None = None, **entry: Any) -> Any:
    section = DatasetEntry(path="x", type=kind, **entry)
    return dataset_formats(objective).load(kind or "columns")(section, Setting(default_system_message=system))


def turns(read: Compared) -> dict[str, list[tuple[str, str | None, float | None]]]:
    """Side -> (role, content, weight) of each message."""
    found = {}
    for side, one in read.answers:
        assert isinstance(one, Conversation)
        found[side] = [(message.role, message.content, message.weight) for message in one.messages]
    return found


def read(kind: str | None, row: dict[str, Any], objective: str = "dpo", **entry: Any) -> Any:
    return turns(make(kind, objective, **entry).read(Row(row, "x.jsonl", 1)))


def fault(kind: str | None, row: dict[str, Any], objective: str = "dpo", **entry: Any) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        make(kind, objective, **entry).read(Row(row, "x.jsonl", 7))
    assert (caught.value.file, caught.value.line) == ("x.jsonl", 7)
    assert caught.value.hint
    return caught.value.field or "", caught.value.message


ASKED = ("user", "Why?", 0.0)
PAIR = {"chosen": [ASKED, ("assistant", "Yes", 1.0)], "rejected": [ASKED, ("assistant", "No", 1.0)]}


@pytest.mark.parametrize("kind", ["chat_template", "chat_template.default"])
@pytest.mark.parametrize("prompt", ["Why?", ASK, [ASK]], ids=["text", "message", "list"])
@pytest.mark.parametrize("answer", [str, says, lambda text: [says(text)], lambda text: [ASK, says(text)]])
def test_prompt_and_answers_may_be_texts_messages_or_lists(kind: str, prompt: Any, answer: Any) -> None:
    assert read(kind, {"messages": prompt, "chosen": answer("Yes"), "rejected": answer("No")}) == PAIR


@pytest.mark.parametrize("objective", ["dpo", "ipo", "simpo", "orpo", "reward_model"])
def test_all_objectives_of_pairs_read_the_same_types(objective: str) -> None:
    row = {"messages": [ASK], "chosen": "Yes", "rejected": "No"}
    assert read("chat_template.default", row, objective) == PAIR
    whole = {"chosen": [ASK, says("Yes")], "rejected": [ASK, says("No")]}
    for kind in ("chat_template.argilla", "chat_template.argilla_chat", None):
        assert read(kind, whole, objective) == PAIR
    assert read(None, {"prompt": [ASK], "chosen": [says("Yes")], "rejected": [says("No")]}, objective) == PAIR


def test_names_of_columns_roles_and_keys_are_the_recipes() -> None:
    row = {
        "talk": [{"who": "me", "said": "Why?"}],
        "good": {"who": "bot", "said": "Yes"},
        "bad": [{"who": "me", "said": "Why?"}, {"who": "bot", "said": "No"}],
    }
    entry = {
        "field_messages": "talk",
        "field_chosen": "good",
        "field_rejected": "bad",
        "message_property_mappings": {"role": "who", "content": "said"},
        "roles": {"user": ["me"], "assistant": ["bot"]},
    }
    assert read("chat_template.default", row, **entry) == PAIR
    assert read("chat_template.default", {**row, "good": "Yes", "bad": "No"}, **entry) == PAIR
    short = {**entry, "message_property_mappings": None, "message_field_role": "who", "message_field_content": "said"}
    assert read("chat_template.default", row, **short) == PAIR


def test_nothing_before_the_answer_is_trained_whatever_the_row_says_of_it() -> None:
    messages = [ASK, {**says("Hm"), "train": True}, says("And?", "user")]
    row = {"messages": messages, "chosen": {**says("Yes"), "train": False}, "rejected": says("No")}
    found = read("chat_template.default", row, message_field_training="train")
    assert [weight for _, _, weight in found["chosen"]] == [0.0, 0.0, 0.0, 1.0]
    assert [weight for _, _, weight in found["rejected"]] == [0.0, 0.0, 0.0, 1.0]


def test_an_answer_may_call_tools_whose_results_are_not_trained() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    chosen = [{"role": "assistant", "tool_calls": [call]}, says("2", "tool"), says("It is 2.")]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    row = {"messages": [ASK], "chosen": chosen, "rejected": "No", "tools": tools}
    compared = make("chat_template.default").read(Row(row, "x", 1))
    assert turns(compared)["chosen"] == [
        ASKED, ("assistant", None, 1.0), ("tool", "2", 0.0), ("assistant", "It is 2.", 1.0),
    ]  # fmt: skip
    assert [one.tools for _, one in compared.answers] == [tools, tools]
    called = compared.answers[0][1].messages[1].extra["tool_calls"]
    assert called == [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]


def test_system_messages_go_before_the_prompt_once() -> None:
    row = {"messages": [ASK], "chosen": "Yes", "rejected": "No"}
    own = read("chat_template.default", {**row, "system": "S"})
    assert own["chosen"][0] == own["rejected"][0] == ("system", "S", 0.0)
    assert [len(messages) for messages in own.values()] == [3, 3]
    told = make("chat_template.default", system="D").read(Row(row, "x", 1))
    assert turns(told)["chosen"] == [("system", "D", 0.0), *PAIR["chosen"]]
    whole = {"chosen": [ASK, says("Yes")], "rejected": [ASK, says("No")]}
    told = make("chat_template.argilla_chat", system="D").read(Row(whole, "x", 1))
    assert turns(told)["rejected"] == [("system", "D", 0.0), *PAIR["rejected"]]
    dropped = {"chosen": [says("S", "system"), ASK, says("Yes")], "rejected": [says("S", "system"), ASK, says("No")]}
    assert read("chat_template.argilla_chat", dropped, drop_system_message=True) == PAIR


def test_conversations_are_compared_from_where_they_differ() -> None:
    chosen = [ASK, says("A"), says("And?", "user"), says("Yes")]
    rejected = [ASK, says("B"), says("And?", "user"), says("No")]
    found = read("chat_template.argilla_chat", {"chosen": chosen, "rejected": rejected})
    assert [weight for _, _, weight in found["chosen"]] == [0.0, 1.0, 0.0, 1.0]
    same = read("chat_template.argilla_chat", {"chosen": chosen, "rejected": [*chosen[:3], says("No")]})
    assert [weight for _, _, weight in same["chosen"]] == [0.0, 0.0, 0.0, 1.0]
    equal = read("chat_template.argilla_chat", {"chosen": chosen, "rejected": chosen})
    assert equal["chosen"] == equal["rejected"] == same["chosen"]


@pytest.mark.parametrize("label", [True, False])
def test_the_last_answer_of_a_conversation_is_judged(label: bool) -> None:
    side = "desirable" if label else "undesirable"
    messages = [ASK, says("A"), says("And?", "user"), says("Yes")]
    expected = {side: [ASKED, ("assistant", "A", 0.0), ("user", "And?", 0.0), ("assistant", "Yes", 1.0)]}
    for kind in ("chat_template", "chat_template.default"):
        assert read(kind, {"messages": messages, "label": label}, "kto") == expected
    assert read(None, {"completion": messages, "label": label}, "kto") == expected
    parted = {"prompt": messages[:3], "completion": messages[3:], "label": label}
    assert read(None, parted, "kto") == expected
    assert read(None, {**parted, "completion": messages[3]}, "kto") == expected
    prefilled = read(None, {"prompt": messages[:2], "completion": messages[3:], "label": label}, "kto")
    assert [weight for _, _, weight in prefilled[side]] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "row", "field", "message"),
    [
        ("chat_template", {"chosen": "c", "rejected": "r"}, "messages", "missing"),
        ("chat_template", {"messages": [ASK], "chosen": "c"}, "rejected", "missing"),
        ("chat_template", {"messages": [], "chosen": "c", "rejected": "r"}, "messages", "a list of 0"),
        ("chat_template", {"messages": [ASK], "chosen": 1, "rejected": "r"}, "chosen", "the number 1"),
        ("chat_template", {"messages": [ASK], "chosen": {"role": "bot"}, "rejected": "r"}, "chosen.role", "'bot'"),
        ("chat_template", {"messages": [ASK], "chosen": [ASK], "rejected": "r"}, "chosen", "role 'user'"),
        ("chat_template", {"messages": [ASK], "chosen": "c", "rejected": [says("?", "user"), says("r")]}, "rejected",
         "not those of messages"),
        ("chat_template", {"messages": [ASK], "chosen": [ASK, ASK, says("c")], "rejected": "r"}, "chosen",
         "not those of messages"),
        ("chat_template.argilla", {"chosen": [ASK, says("c")], "rejected": [ASK]}, "rejected", "role 'user'"),
        ("chat_template.argilla", {"chosen": [ASK, says("c")], "rejected": [says("?", "user"), says("r")]}, "rejected",
         "different prompts"),
        ("chat_template.argilla", {"chosen": [says("c")], "rejected": [says("r")]}, "rejected", "different prompts"),
        (None, {"prompt": [ASK], "chosen": [says("c")], "rejected": "r", "system": 5}, "system", "the number 5"),
        (None, {"prompt": [ASK], "chosen": [{"role": "user"}], "rejected": "r"}, "chosen[0].content", "missing"),
    ],
)  # fmt: skip
def test_a_wrong_pair_is_a_fault_with_its_field(
    kind: str | None, row: dict[str, Any], field: str, message: str
) -> None:
    found = fault(kind, row)
    assert found[0] == field
    assert message in found[1]


@pytest.mark.parametrize(
    ("kind", "row", "field"),
    [
        ("chat_template", {"messages": [ASK, says("a")]}, "label"),
        ("chat_template", {"messages": [ASK, says("a")], "label": "good"}, "label"),
        ("chat_template", {"messages": [ASK], "label": True}, "messages"),
        (None, {"completion": [ASK], "label": True}, "completion"),
        (None, {"prompt": [ASK], "completion": [ASK], "label": True}, "completion"),
        (None, {"prompt": [ASK], "completion": [{"role": "assistant"}], "label": True}, "completion[0].content"),
        (None, {"completion": "text", "label": True}, "prompt"),
    ],
)
def test_a_wrong_judgement_is_a_fault_with_its_field(kind: str | None, row: dict[str, Any], field: str) -> None:
    assert fault(kind, row, "kto")[0] == field


NAMES = [(objective, name) for objective in PREFERENCE_FAMILIES for name in dataset_formats(objective)]


@pytest.mark.parametrize(("objective", "name"), NAMES, ids=[f"{one}-{name}" for one, name in NAMES])
def test_example_rows_of_every_type_are_read(objective: str, name: str) -> None:
    kind = {"columns": None, "mapping": {}}.get(name, name)
    entry = DatasetEntry(path="x", type=kind)
    form = dataset_formats(objective).load(name)(entry, Setting())
    rows = form.example_rows(3)
    assert len(rows) == 3
    assert set(form.keys) <= set(DatasetEntry.model_fields)
    for row in rows:
        found = form.read(Row(row, "x", 1))
        if isinstance(found, Compared):
            sides = [side for side, _ in found.answers]
            assert sides in (["chosen", "rejected"], ["desirable"])
            assert len({str(one) for _, one in found.answers}) == len(sides)
            for _, one in found.answers:
                assert form.chat is True if isinstance(one, Conversation) else isinstance(one, Segments)
