"""Judged steps: which token carries which class, by the rule of trl's PRMTrainer worked out in a plain loop."""

from __future__ import annotations

from typing import Any

import pytest

from axo.data.formats.format import Setting
from axo.data.formats.stepwise import StepwiseSupervised
from axo.data.messages import Steps
from axo.data.rows import Row
from axo.data.tokenize import Sample, Tokenizing
from axo.errors import DataError
from axo.recipe.data import DatasetEntry

ROW = {"prompt": "The lazy dog?", "completions": ["quick brown", "fox", " jumps over"], "labels": [True, False, True]}


def make(**entry: Any) -> StepwiseSupervised:
    return StepwiseSupervised(DatasetEntry(path="x", type="stepwise_supervised", **entry), Setting())


def sample(tokenizer: Any, row: dict[str, Any], **entry: Any) -> Sample:
    return Tokenizing(tokenizer).tokenize([make(**entry).read(Row(row, "x", 1))]).samples[0]


def worked_out(
    tokenizer: Any, row: dict[str, Any], *, separator: str = "\n", cut: int | None = None, last_only: bool = False
) -> tuple[list[int], list[int]]:
    """trl 0.20, PRMTrainer.tokenize_row, said again: part by part, a class on the last token of each step."""
    bos = tokenizer.bos_token_id
    ids, labels = [], []
    for number, (step, label) in enumerate(zip(row["completions"], row["labels"], strict=True)):
        for text in (step, separator):
            for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
                ids.append(token)
                labels.append(-100)
        if not last_only or number == len(row["labels"]) - 1:
            labels[-1] = int(label)
    prompt = [] if bos is None else [bos]
    prompt += tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
    kept = len(ids) if cut is None else cut
    return prompt + ids[:kept], [-100] * len(prompt) + labels[:kept]


@pytest.mark.parametrize("kind", ["byte-level", "adds-bos", "metaspace"])
@pytest.mark.parametrize("separator", ["\n", "\n\n", " ", "", "<|im_end|>"])
@pytest.mark.parametrize("cut", [None, 1, 4, 1000])
@pytest.mark.parametrize("last_only", [False, True])
def test_the_last_token_of_each_step_carries_its_class(
    tokenizers: dict[str, Any], kind: str, separator: str, cut: int | None, last_only: bool
) -> None:
    tokenizer = tokenizers[kind]
    options = {"step_separator": separator, "max_completion_length": cut, "train_on_last_step_only": last_only}
    found = sample(tokenizer, ROW, **options)
    ids, labels = worked_out(tokenizer, ROW, separator=separator, cut=cut, last_only=last_only)
    assert (found.ids.tolist(), found.labels.tolist()) == (ids, labels)
    whole, _ = worked_out(tokenizer, ROW, separator=separator)
    assert found.lost == len(whole) - len(ids)


def test_classes_written_by_hand(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte-level"]
    found = sample(tokenizer, {"prompt": "a", "completions": ["b", "c"], "labels": [1, 0]})
    assert tokenizer.convert_ids_to_tokens(found.ids.tolist()) == ["<s>", "a", "b", "Ċ", "c", "Ċ"]
    assert found.labels.tolist() == [-100, -100, -100, 1, -100, 0]


def test_a_tokenizer_without_a_bos_puts_none_in_front(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    tokenizer.bos_token = None
    found = sample(tokenizer, ROW)
    assert (found.ids.tolist(), found.labels.tolist()) == worked_out(tokenizer, ROW)
    assert tokenizer.decode(found.ids).startswith("The lazy dog?")


def test_lists_may_be_written_as_json_and_labels_as_numbers() -> None:
    plain = make().read(Row(ROW, "x", 1))
    assert plain == Steps("The lazy dog?", (("quick brown", 1), ("fox", 0), (" jumps over", 1)), "\n", None, False)
    row = {"prompt": ROW["prompt"], "completions": '["quick brown", "fox", " jumps over"]', "labels": "[1, 0.0, true]"}
    assert make().read(Row(row, "x", 1)) == plain
    assert make().read(Row({**ROW, "labels": [2, 0, 1]}, "x", 1)).steps[0][1] == 2


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"prompt": None}, "prompt", "null"),
        ({"completions": "one"}, "completions", "JSON"),
        ({"completions": {}}, "completions", "an object"),
        ({"completions": [], "labels": []}, "completions", "empty"),
        ({"completions": ["a", 2, "c"]}, "completions[1]", "the number 2"),
        ({"labels": [True, False]}, "labels", "2 labels for 3 steps"),
        ({"labels": [True, False, None]}, "labels[2]", "null"),
        ({"labels": [True, -1, 1]}, "labels[1]", "the number -1"),
        ({"labels": [True, 0.5, 1]}, "labels[1]", "the number 0.5"),
        ({"labels": ["+", "-", "+"]}, "labels[0]", "text '+'"),
        ({"labels": True}, "labels", "true"),
    ],
)
def test_a_wrong_row_is_a_fault_with_its_field(row: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        make().read(Row({**ROW, **row}, "x.jsonl", 5))
    assert (caught.value.file, caught.value.line, caught.value.field) == ("x.jsonl", 5, field)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_step_without_any_token_is_a_fault() -> None:
    row = {"prompt": "p", "completions": ["a", ""], "labels": [1, 0]}
    assert make().read(Row(row, "x", 1)).steps == (("a", 1), ("", 0))
    with pytest.raises(DataError) as caught:
        make(step_separator="").read(Row(row, "x", 1))
    assert caught.value.field == "completions[1]"
