"""Which weights and repeats a recipe may give, and which keys of order contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from axo.recipe.recipe import recipe_from_flat
from axo.recipe.rules import check, remarks


def recipe_of(*datasets: dict[str, Any], **keys: Any) -> Any:
    entries = [{"path": f"{at}.jsonl", "type": "alpaca", **entry} for at, entry in enumerate(datasets)]
    return recipe_from_flat({"base_model": "m", "learning_rate": 1e-4, "datasets": entries or [{"path": "a"}], **keys})


def faults(*datasets: dict[str, Any], **keys: Any) -> list[tuple[str, str]]:
    return [(finding.key, finding.message) for finding in check(recipe_of(*datasets, **keys))]


@pytest.mark.parametrize(
    "datasets",
    [
        [{}],
        [{"repeat": 2}],
        [{"repeat": 0.5}, {}],
        [{"weight": 1}, {"weight": 0.5}],
        [{"weight": 1}, {"weight": 2}, {"repeat": 1}],
    ],
)
def test_these_mixtures_are_clear(datasets: list[dict[str, Any]]) -> None:
    assert faults(*datasets) == []


@pytest.mark.parametrize(
    ("datasets", "key", "message"),
    [
        ([{"weight": 1}], "datasets.0.weight", "no other has one"),
        ([{"weight": 1}, {"repeat": 2}], "datasets.0.weight", "no other has one"),
        ([{"weight": 1, "repeat": 2}, {"weight": 1}], "datasets.0.weight", "both say how often"),
        ([{"weight": 1}, {"weight": 2}, {}], "datasets.2", "neither weight nor repeat, but datasets.0 has a weight"),
        ([{}, {"weight": 1}], "datasets.0", "neither weight nor repeat, but datasets.1 has a weight"),
    ],
)
def test_a_mixture_that_could_mean_two_things_is_refused(
    datasets: list[dict[str, Any]], key: str, message: str
) -> None:
    ((found, said),) = faults(*datasets)
    assert found == key
    assert message in said


@pytest.mark.parametrize("key", ["weight", "repeat"])
def test_evaluation_data_is_taken_once(key: str) -> None:
    test = [{"path": "t.jsonl", "type": "alpaca", key: 2}]
    assert [found for found, _ in faults({}, test_datasets=test)] == [f"test_datasets.0.{key}"]


def test_a_part_must_be_named() -> None:
    ((key, message),) = faults({}, dataset_shard_num=4)
    assert key == "dataset_shard_num"
    assert "dataset_shard_idx does not say which" in message
    assert faults({}, dataset_shard_num=4, dataset_shard_idx=0) == []
    assert faults({}, dataset_shard_num=1) == []
    assert [key for key, _ in faults({}, dataset_shard_num=4, dataset_shard_idx=4)] == ["dataset_shard_idx"]


@pytest.mark.parametrize(
    ("keys", "idle"),
    [
        ({"shuffle_before_merging_datasets": True}, "shuffle_before_merging_datasets"),
        ({"curriculum_sampling": True, "shuffle_merged_datasets": True}, "shuffle_merged_datasets"),
        ({"eval_sequence_len": 99, "val_set_size": 0.1}, "eval_sequence_len"),
    ],
)
def test_what_another_key_makes_idle_is_said(keys: dict[str, Any], idle: str) -> None:
    notes = [note for note in remarks(recipe_of({}, **keys)) if not isinstance(note, str)]
    assert [key for note in notes for key in note.keys] == [idle]


def test_an_order_that_is_asked_for_gets_no_note() -> None:
    keys = {"shuffle_before_merging_datasets": True, "shuffle_merged_datasets": False}
    assert remarks(recipe_of({}, **keys)) == []
    assert remarks(recipe_of({}, curriculum_sampling=True)) == []
