"""alpaca, completion, input_output and mapping types: the exact text of each part and whether it is trained."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.alpaca import Alpaca
from axo.data.formats.completion import Completion
from axo.data.formats.input_output import InputOutput
from axo.data.formats.mapping import Mapping
from axo.data.messages import Segments
from axo.data.rows import Row
from axo.errors import RecipeError
from axo.recipe.data import DatasetEntry


def read(form: Any, values: dict[str, Any], *, train_on_inputs: bool = False, **entry: Any) -> Segments:
    names = {Alpaca: "alpaca", Completion: "completion", InputOutput: "input_output"}
    entry.setdefault("type", names.get(form))
    section = DatasetEntry(path="x", **entry)
    made = form(section, train_on_inputs=train_on_inputs, default_system_message=None)
    return made.read(Row(values, "x.jsonl", 1))


def test_an_alpaca_row_with_input_has_stanfords_prompt() -> None:
    row = {"instruction": "Add {one}.", "input": "2", "output": "3"}
    assert read(Alpaca, row) == Segments(
        (
            (
                "Below is an instruction that describes a task, paired with an input that provides further context. "
                "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd {one}.\n\n"
                "### Input:\n2\n\n### Response:\n",
                False,
            ),
            ("3", True),
        ),
        add_bos=True,
        add_eos=True,
    )


@pytest.mark.parametrize("row", [{"input": ""}, {"input": None}, {}])
def test_an_alpaca_row_without_input_has_the_short_prompt(row: dict[str, Any]) -> None:
    segments = read(Alpaca, {"instruction": "Hi.", "output": "Ho.", **row})
    assert segments.parts[0][0] == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nHi.\n\n### Response:\n"
    )


def test_train_on_inputs_trains_the_prompt_too() -> None:
    row = {"instruction": "Hi.", "output": "Ho."}
    assert [trained for _, trained in read(Alpaca, row, train_on_inputs=True).parts] == [True, True]
    segments = {"segments": [{"text": "a", "label": False}, {"text": "b", "label": True}]}
    assert read(InputOutput, segments, train_on_inputs=True).parts == (("a", True), ("b", True))


def test_a_completion_is_trained_throughout_and_may_be_cut() -> None:
    assert read(Completion, {"body": "All of it."}, field="body") == Segments(
        (("All of it.", True),), add_bos=True, add_eos=True, chunk=True
    )


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
    "the recipe's system text where the row has none": (
        {"field_system": "sys", "system_prompt": "Be brief. ", "format": "{instruction}:"},
        {"sys": None, "instruction": "Add", "output": "2"},
        "Be brief. Add:",
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
