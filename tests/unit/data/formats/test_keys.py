"""The recipe's table of what each format reads, against what the formats themselves say."""

from __future__ import annotations

import pytest

from axo.recipe.data import DatasetEntry
from axo.recipe.format_keys import OF_ROWS, READERS, reads
from axo.registry.tables import DATASET_FORMATS

OF_THE_MASK = {"chat_template", "chat_template_jinja", "roles_to_train", "train_on_eos", "train_on_eot"}
"""Keys that data/preparation.py reads for every format whose rows a chat template renders."""
ELSEWHERE = {
    "path", "weight", "repeat", "skip", "preprocess_shards", "input_format", "field_human", "field_model",
    "field_chosen", "field_rejected", "step_separator", "max_completion_length", "train_on_last_step_only",
    "logprobs_field", "temperature",
}  # fmt: skip
"""Keys of where rows come from and how often, keys that nothing reads, and keys for answers that are compared."""
NAMES = [name for name in DATASET_FORMATS if name != "custom_code"]


def entry_of(name: str) -> DatasetEntry:
    kind = {"mapping": {}, "pretokenized": None}.get(name, name)
    return DatasetEntry.model_validate({"path": "x", "type": kind})


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_knows_which_keys_a_format_reads(name: str) -> None:
    form = DATASET_FORMATS.load(name)
    read = {*form.keys, "type", *(OF_THE_MASK if form.chat else ())}
    read |= set() if name == "_synthetic" else OF_ROWS
    known = {key for key in DatasetEntry.model_fields if reads(entry_of(name), key)}
    assert known - ELSEWHERE == read


def test_code_of_the_recipes_own_may_read_every_key() -> None:
    entry = DatasetEntry(path="x", type="my.code", allow_custom_code=True)
    assert all(reads(entry, key) for key in DatasetEntry.model_fields)
    assert set(DATASET_FORMATS.load("custom_code").keys) >= set(READERS)


def test_every_key_of_a_data_set_is_accounted_for() -> None:
    assert {*READERS, *OF_ROWS, *ELSEWHERE, "type"} == set(DatasetEntry.model_fields)
