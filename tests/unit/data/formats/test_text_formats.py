"""completion, pretrain, input_output and mapping types: the exact text of each part and whether it is trained."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.completion import Completion
from axo.data.formats.format import Setting
from axo.data.formats.input_output import InputOutput
from axo.data.formats.mapping import Mapping
from axo.data.formats.pretrain import Pretrain
from axo.data.messages import Segments
from axo.data.rows import Row
from axo.errors import DataError, RecipeError
from axo.recipe.data import DatasetEntry


def read(form: Any, values: dict[str, Any], *, train_on_inputs: bool = False, **entry: Any) -> Segments:
    names = {Completion: "completion", InputOutput: "input_output", Pretrain: "pretrain"}
    entry.setdefault("type", names.get(form))
    section = DatasetEntry(path="x", **entry)
    made = form(section, Setting(train_on_inputs=train_on_inputs))
    return made.read(Row(values, "x.jsonl", 1))


def test_train_on_inputs_trains_the_prompt_too() -> None:
    row = {"instruction": "Hi.", "output": "Ho."}
    assert [trained for _, trained in read(Mapping, row, type={}, train_on_inputs=True).parts] == [True, True]
    segments = {"segments": [{"text": "a", "label": False}, {"text": "b", "label": True}]}
    assert read(InputOutput, segments, train_on_inputs=True).parts == (("a", True), ("b", True))


def test_a_completion_is_trained_throughout_and_may_be_cut() -> None:
    assert read(Completion, {"body": "All of it."}, field="body") == Segments(
        (("All of it.", True),), add_bos=True, add_eos=True, chunk=True
    )


def test_text_to_pretrain_on_is_a_completion_of_another_column() -> None:
    row = {"body": "All of it."}
    assert read(Pretrain, row, text_column="body") == read(Completion, row, field="body")


@pytest.mark.parametrize("form", [Completion, Pretrain])
def test_an_empty_text_has_no_end_either(form: Any) -> None:
    assert read(form, {"text": ""}) == Segments((("", 1.0),), add_bos=False, add_eos=False, chunk=True)


def test_segments_may_have_weights() -> None:
    row = {
        "segments": [{"text": "a", "weight": 0}, {"text": "b", "weight": 0.5}, {"text": "c", "label": 1, "weight": 2}]
    }
    assert read(InputOutput, row).parts == (("a", 0.0), ("b", 0.5), ("c", 2.0))
    assert read(InputOutput, row, train_on_inputs=True).parts == (("a", 1.0), ("b", 1.0), ("c", 2.0))


WRONG_SEGMENTS = {
    "no text": ({"label": True}, "segments[0].text", "missing"),
    "no label": ({"text": "a"}, "segments[0].label", "missing"),
    "a label in a text": ({"text": "a", "label": "no"}, "segments[0].label", "expected true or false"),
    "a label of 2": ({"text": "a", "label": 2}, "segments[0].label", "expected true or false"),
    "a weight below 0": ({"text": "a", "weight": -1}, "segments[0].weight", "at least 0"),
    "a weight that is true": ({"text": "a", "weight": True}, "segments[0].weight", "at least 0"),
    "a weight against the label": ({"text": "a", "label": False, "weight": 1}, "segments[0].weight", "contradicts"),
    "no weight against the label": ({"text": "a", "label": True, "weight": 0}, "segments[0].weight", "contradicts"),
}


@pytest.mark.parametrize("name", WRONG_SEGMENTS)
def test_a_wrong_segment_is_refused_with_file_line_and_field(name: str) -> None:
    segment, field, says = WRONG_SEGMENTS[name]
    with pytest.raises(DataError) as refused:
        read(InputOutput, {"segments": [segment]})
    assert (refused.value.file, refused.value.line, refused.value.field) == ("x.jsonl", 1, field)
    assert says in refused.value.message


def test_segments_are_taken_as_they_are() -> None:
    row = {"segments": [{"text": "<s>ask ", "label": False}, {"text": "tell</s>", "label": True}]}
    assert read(InputOutput, row) == Segments((("<s>ask ", False), ("tell</s>", True)), add_bos=False, add_eos=False)


MAPPED = {
    "columns of other names": (
        {"field_instruction": "question", "field_output": "answer", "format": "Q: {instruction}\nA:"},
        {"question": "Why?", "answer": " So."},
        "Q: Why?\nA:",
    ),
    "with an input": (
        {"format": "{instruction} [{input}] ", "no_input_format": "{instruction} "},
        {"instruction": "Add", "input": "{1}", "output": "2"},
        "Add [{1}] ",
    ),
    "without an input": (
        {"format": "{instruction} [{input}] ", "no_input_format": "{instruction} "},
        {"instruction": "Add", "input": "", "output": "2"},
        "Add ",
    ),
    "no column of inputs": (
        {"field_input": None, "format": "{instruction}>"},
        {"instruction": "Add", "input": "ignored", "output": "2"},
        "Add>",
    ),
    "a system column": (
        {"field_system": "sys", "system_format": "[{system}]\n", "format": "{instruction}:"},
        {"sys": "Be kind.", "instruction": "Add", "output": "2"},
        "[Be kind.]\nAdd:",
    ),
    "the recipe's system text where the row has no such column": (
        {"field_system": "sys", "system_prompt": "Be brief. ", "format": "{instruction}:"},
        {"instruction": "Add", "output": "2"},
        "Be brief. Add:",
    ),
    "no system text where the row's own is none": (
        {"field_system": "sys", "system_prompt": "Be brief. ", "format": "{instruction}:"},
        {"sys": None, "instruction": "Add", "output": "2"},
        "Add:",
    ),
    "a column called system": (
        {"system_prompt": "Be brief. ", "format": "{instruction}:"},
        {"system": "Be kind. ", "instruction": "Add", "output": "2"},
        "Be kind. Add:",
    ),
    "a system text that the format places": (
        {"system_prompt": "S", "system_format": "<{system}>", "format": "{instruction} {system}:"},
        {"instruction": "Add", "output": "2"},
        "Add <S>:",
    ),
    "literal braces": (
        {"format": "{{{instruction}}}="},
        {"instruction": "Add", "output": "2"},
        "{Add}=",
    ),
    "no format": ({}, {"instruction": "Add", "input": "1", "output": "2"}, "Add 1 "),
    "no format, no input": ({}, {"instruction": "Add", "output": "2"}, "Add "),
}


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapping_type_writes_the_prompt_of_its_formats(name: str) -> None:
    section, row, prompt = MAPPED[name]
    segments = read(Mapping, row, type=section)
    answer = row.get("answer", row.get("output"))
    assert segments == Segments(((prompt, False), (answer, True)), add_bos=True, add_eos=True)


def test_nothing_is_learnt_from_an_empty_answer() -> None:
    segments = read(Mapping, {"instruction": "Add", "output": ""}, type={})
    assert (segments.parts[1], segments.add_eos) == (("", 1.0), False)


def test_a_question_alone_is_asked_in_the_prompt_of_its_type() -> None:
    section: Any = {"field_instruction": "q", "system_prompt": "Sys. ", "no_input_format": "Q: {instruction} A:"}
    ask = Mapping(DatasetEntry(path="x", type=section), Setting()).question
    assert ask("Why {so}?") == "Sys. Q: Why {so}? A:"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"format": "{question}"}, "format"),
        ({"format": "{}"}, "format"),
        ({"format": "{instruction"}, "format"),
        ({"no_input_format": "{output}"}, "no_input_format"),
        ({"system_format": "{instruction}"}, "system_format"),
    ],
)
def test_a_format_that_cannot_be_filled_in_is_a_fault_of_the_recipe(section: dict[str, str], key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read(Mapping, {}, type=section)
    assert refused.value.findings[0].key == f"datasets.type.{key}"
