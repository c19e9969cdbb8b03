"""Rows of tokens: taken as they are, without their padding; and made-up ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from axo.data.formats.format import Setting
from axo.data.formats.pretokenized import Pretokenized
from axo.data.formats.synthetic import Synthetic
from axo.data.messages import Tokens
from axo.data.rows import Row
from axo.errors import DataError, RecipeError
from axo.recipe.data import DatasetEntry


def read(values: dict[str, Any], *, vocab_size: int = 100) -> Tokens:
    form = Pretokenized(DatasetEntry(path="x"), Setting(vocab_size=vocab_size))
    return form.read(Row(values, "x.jsonl", 2))


READ = {
    "ids alone": ({"input_ids": [5, 6]}, Tokens([5, 6], [5, 6])),
    "labels": ({"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}, Tokens([5, 6, 7], [-100, -100, 7])),
    "nulls": ({"input_ids": [5, 6], "labels": None, "attention_mask": None}, Tokens([5, 6], [5, 6])),
    "padding behind": (
        {"input_ids": [5, 6, 0, 0], "attention_mask": [1, 1, 0, 0], "labels": [-100, 6, -100, 0]},
        Tokens([5, 6], [-100, 6]),
    ),
    "padding in front": (
        {"input_ids": [0, 5, 6], "attention_mask": [0, 1, 1], "labels": [-100, 5, 6]},
        Tokens([5, 6], [5, 6]),
    ),
    "padding that is no label of its token": (
        {"input_ids": [5, 6, 9], "attention_mask": [1, 1, 0], "labels": [5, 6, 3]},
        Tokens([5, 6], [5, 6]),
    ),
    "weights": (
        {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 0], "loss_weight": [0, 0.5, 1]},
        Tokens([5, 6], [5, 6], [0.0, 0.5]),
    ),
    "lists as JSON in texts": ({"input_ids": "[5, 6]", "labels": "[-100, 6]"}, Tokens([5, 6], [-100, 6])),
}


@pytest.mark.parametrize("name", READ)
def test_tokens_are_read_as_they_are_without_padding(name: str) -> None:
    row, expected = READ[name]
    assert read(row) == expected


WRONG = {
    "no ids": ({"text": "Hi"}, "input_ids", "missing (the data set has no type)"),
    "ids that are text": ({"input_ids": "Hi"}, "input_ids", "expected JSON"),
    "ids that are one number": ({"input_ids": 5}, "input_ids", "the number 5"),
    "no token": ({"input_ids": []}, "input_ids", "at least one token"),
    "a fraction": ({"input_ids": [5, 6.5]}, "input_ids[1]", "the number 6.5"),
    "true": ({"input_ids": [5, True]}, "input_ids[1]", "found true"),
    "a null inside": ({"input_ids": [None, 5]}, "input_ids[0]", "found null"),
    "a list inside": ({"input_ids": [[5], [6]]}, "input_ids[0]", "a list of 1"),
    "a text inside": ({"input_ids": [5, "6"]}, "input_ids[1]", "text '6'"),
    "beyond any number": ({"input_ids": [5, 2**70]}, "input_ids[1]", "the number"),
    "beyond the vocabulary": (
        {"input_ids": [5, 100]},
        "input_ids[1]",
        "100 is no token of the tokenizer, which has 100",
    ),
    "below zero": ({"input_ids": [-1, 5]}, "input_ids[0]", "-1 is no token"),
    "too few labels": ({"input_ids": [5, 6], "labels": [5]}, "labels", "expected 2 numbers"),
    "labels that are shifted": (
        {"input_ids": [5, 6], "labels": [6, -100]},
        "labels[0]",
        "expected the token itself, 5",
    ),
    "too long a mask": ({"input_ids": [5], "attention_mask": [1, 1]}, "attention_mask", "expected 1 numbers"),
    "a mask of twos": ({"input_ids": [5, 6], "attention_mask": [1, 2]}, "attention_mask[1]", "expected 0 or 1"),
    "all masked": ({"input_ids": [5, 6], "attention_mask": [0, 0]}, "attention_mask", "every token"),
    "a hole": ({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}, "attention_mask[1]", "0 between tokens"),
    "a negative weight": ({"input_ids": [5, 6], "loss_weight": [1, -1]}, "loss_weight[1]", "at least 0"),
    "a weight that is text": ({"input_ids": [5, 6], "loss_weight": ["1", 1]}, "loss_weight[0]", "at least 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_refused_with_file_line_and_field(name: str) -> None:
    row, field, says = WRONG[name]
    with pytest.raises(DataError) as refused:
        read(row)
    assert (refused.value.file, refused.value.line, refused.value.field) == ("x.jsonl", 2, field)
    assert says in refused.value.message
    assert refused.value.hint


def test_without_a_known_vocabulary_any_token_may_be() -> None:
    assert read({"input_ids": [5, 10**6]}, vocab_size=0).ids == [5, 10**6]


def made_up(*, seed: int | None = None, vocab_size: int = 500, recipe_seed: int = 42, **keys: Any) -> list[list[int]]:
    entry = DatasetEntry(path="nowhere", type="_synthetic", seed=seed, **keys)
    form = Synthetic(entry, Setting(sequence_len=9, vocab_size=vocab_size, seed=recipe_seed))
    rows = list(form.made_up_rows())
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))
    read = [form.read(row) for row in rows]
    assert all(tokens.ids == tokens.labels for tokens in read)
    return [list(tokens.ids) for tokens in read]


def test_made_up_rows_are_those_that_numpy_draws_at_once() -> None:
    found = made_up(length=7, sequence_length=33, min_input_id=5, max_input_id=400, seed=3)
    assert found == np.random.default_rng(3).integers(low=5, high=400, size=(7, 33)).tolist()


def test_made_up_rows_have_the_recipes_length_vocabulary_and_seed_where_nothing_is_said() -> None:
    found = made_up(length=50)
    assert {len(ids) for ids in found} == {9}
    assert min(map(min, found)) >= 100
    assert 450 < max(map(max, found)) < 500
    assert found == made_up(length=50, seed=42) == made_up(length=50)
    assert found != made_up(length=50, recipe_seed=43)
    assert len(made_up()) == 1000


@pytest.mark.parametrize(
    ("keys", "key"),
    [({"max_input_id": 501}, "max_input_id"), ({"min_input_id": 500}, "min_input_id")],
)
def test_made_up_tokens_are_tokens_of_the_vocabulary(keys: dict[str, int], key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        made_up(**keys)
    assert refused.value.findings[0].key == f"datasets.{key}"
