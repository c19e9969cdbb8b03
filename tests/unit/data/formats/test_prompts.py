"""The types of the 2023 data sets: every byte of prompt and answer, as Axolotl's own code wrote them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.data.formats.format import Setting
from axo.data.formats.prompted import Prompted
from axo.data.formats.prompts import PROMPTS
from axo.data.messages import Segments
from axo.data.rows import Row
from axo.data.tokenize import Tokenizing
from axo.errors import DataError
from axo.recipe.data import DatasetEntry
from axo.registry.tables import DATASET_FORMATS

GOLDEN = Path(__file__).parents[3] / "assets" / "prompts_of_2023.yaml"
CASES: list[dict[str, Any]] = yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))


def read(kind: str, row: dict[str, Any], *, train_on_inputs: bool = False) -> Segments:
    form = Prompted(DatasetEntry(path="x", type=kind), Setting(train_on_inputs=train_on_inputs))
    return form.read(Row(row, "x.jsonl", 3))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{at}-{case['type']}" for at, case in enumerate(CASES)])
def test_prompt_and_answer_are_those_of_axolotl(number: int) -> None:
    case = CASES[number]
    segments = read(case["type"], case["row"])
    assert segments.parts == ((case["prompt"], 0.0), (case["answer"], 1.0))
    assert (segments.add_bos, segments.add_eos) == (True, case["num_eos"])
    assert segments.joined == case["type"].startswith("reflection")


def test_every_type_of_the_table_is_in_the_index_and_has_a_golden_row() -> None:
    in_index = {name for name, target in DATASET_FORMATS.items() if target.endswith(":Prompted")}
    assert in_index == set(PROMPTS) == {case["type"] for case in CASES}


@pytest.mark.parametrize("kind", PROMPTS)
def test_train_on_inputs_trains_the_prompt_too(kind: str) -> None:
    row = next(case["row"] for case in CASES if case["type"] == kind)
    assert [weight for _, weight in read(kind, row, train_on_inputs=True).parts] == [1.0, 1.0]


@pytest.mark.parametrize("given", [{"input": ""}, {"input": None}, {}])
def test_a_row_without_an_input_has_the_short_prompt(given: dict[str, Any]) -> None:
    segments = read("alpaca", {"instruction": "Hi.", "output": "Ho.", **given})
    assert segments.parts[0][0] == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nHi.\n\n### Response:\n"
    )


def test_nothing_is_learnt_from_an_empty_answer() -> None:
    segments = read("alpaca", {"instruction": "Hi.", "output": ""})
    assert (segments.parts[1], segments.add_eos) == (("", 1.0), 0)


def test_an_old_name_of_a_loader_says_the_same() -> None:
    row = {"instruction": "Hi.", "output": "Ho."}
    assert read("alpaca_chat.load", row) == read("alpaca_chat", row)


@pytest.mark.parametrize(("answer", "missing"), [("Ho", 3), ("Ho<|im_end|>", 2)])
def test_metharme_ends_with_three_end_of_sequence_tokens(answer: str, missing: int, tokenizer: Any) -> None:
    segments = read("metharme", {"prompt": "Hi", "generation": answer})
    (sample,) = Tokenizing(tokenizer).tokenize([segments]).samples
    plain = tokenizer("Hi", add_special_tokens=False).input_ids + tokenizer(answer, add_special_tokens=False).input_ids
    assert sample.ids.tolist() == plain + [tokenizer.eos_token_id] * missing
    assert sample.labels[-3:].tolist() == [tokenizer.eos_token_id] * 3


def test_a_question_alone_is_asked_in_the_prompt_of_its_type() -> None:
    ask = Prompted(DatasetEntry(path="x", type="alpaca_chat.load_qa"), Setting()).question
    row = {"question": "Why {so}?", "answer": "So."}
    assert ask("Why {so}?") == read("alpaca_chat.load_qa", row).parts[0][0]


WRONG = {
    "a missing column": ("alpaca", {"instruction": "Hi"}, "output", "this field is missing"),
    "a null": ("gpteacher", {"instruction": None, "response": "x"}, "instruction", "found null"),
    "a number": ("oasst", {"INSTRUCTION": 5, "RESPONSE": "x"}, "INSTRUCTION", "the number 5"),
    "an input that is a list": ("alpaca", {"instruction": "x", "input": [], "output": ""}, "input", "a list of 0"),
    "choices in a text": ("explainchoice", {"question": "x", "choices": "[1", "solution": "a"}, "choices", "JSON"),
    "a choice that is none": (
        "concisechoice", {"question": "x", "choices": ["a", 2], "solution": "a"}, "choices[1]", "the number 2",
    ),
    "no solution at all": ("explainchoice", {"question": "x", "choices": ["a"]}, "explanation", "missing"),
    "no scores": (
        "creative_acr.load_critique", {"instruction": "x", "answer": "y", "critiques": {}}, "scores", "missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_with_file_line_and_field(name: str) -> None:
    kind, row, field, says = WRONG[name]
    with pytest.raises(DataError, match=f"x.jsonl:3:{field}".replace("[", r"\[").replace("]", r"\]")) as refused:
        read(kind, row)
    assert says in refused.value.message
