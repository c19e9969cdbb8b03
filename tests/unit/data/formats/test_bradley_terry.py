"""Pairs for reward models, as Axolotl's types for them have them."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.format import Setting
from axo.data.messages import Conversation, Segments
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.data import DatasetEntry
from axo.registry.tables import dataset_formats

ROW = {"input": "Why?", "chosen": "Yes", "rejected": "No"}


def make(kind: str, **entry: Any) -> Any:
    return dataset_formats("reward_model").load(kind)(DatasetEntry(path="x", type=kind, **entry), Setting())


@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_a_question_and_two_answers_become_conversations(system: str | None) -> None:
    read = make("bradley_terry.chat_template").read(Row({**ROW, "system": system}, "x", 1))
    front = [("system", "Be brief.", 0.0)] if system else []
    for (side, one), answer in zip(read.answers, ("Yes", "No"), strict=True):
        assert isinstance(one, Conversation)
        assert side == {"Yes": "chosen", "No": "rejected"}[answer]
        found = [(message.role, message.content, message.weight) for message in one.messages]
        assert found == [*front, ("user", "Why?", 0.0), ("assistant", answer, 1.0)]


def test_the_question_may_be_a_conversation_under_another_name() -> None:
    row = {"talk": [{"role": "user", "content": "Why?"}], "chosen": "Yes", "rejected": "No"}
    read = make("bradley_terry.chat_template", field_messages="talk").read(Row(row, "x", 1))
    assert [message.content for message in read.answers[0][1].messages] == ["Why?", "Yes"]


def test_llama_3_is_written_by_the_format_itself() -> None:
    read = make("bradley_terry.llama3.icr").read(Row({**ROW, "system": "S"}, "x", 1))
    prompt = (
        "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    for (_, one), answer in zip(read.answers, ("Yes", "No"), strict=True):
        assert isinstance(one, Segments)
        assert one.parts == ((prompt, 0.0), (answer + "<|eot_id|>", 1.0))


@pytest.mark.parametrize("kind", ["bradley_terry.chat_template", "bradley_terry.llama3.icr"])
@pytest.mark.parametrize("gone", ["input", "chosen", "rejected"])
def test_a_missing_column_is_a_fault_with_its_name(kind: str, gone: str) -> None:
    row = {name: value for name, value in ROW.items() if name != gone}
    with pytest.raises(DataError) as caught:
        make(kind).read(Row(row, "x.jsonl", 3))
    assert (caught.value.file, caught.value.line, caught.value.field) == ("x.jsonl", 3, gone)
