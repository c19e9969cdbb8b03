"""Rules about where rows come from, in which order, and how many of them."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe.recipe import Recipe
from axo.recipe.table_rules import Excludes, Keys, Needs, Only, on


def shards(recipe: Recipe) -> list[Finding]:
    """A shard is one of those that there are, counted from 0."""
    data, keys = recipe.data, Keys(recipe)
    findings = list(_shard("dataset_shard_idx", data.dataset_shard_idx, "dataset_shard_num", data.dataset_shard_num))
    for name in ("datasets", "test_datasets", "pretraining_dataset"):
        for index, entry in enumerate(keys[name] or []):
            place = f"{name}.{index}"
            findings += _shard(f"{place}.shards_idx", entry.shards_idx, f"{place}.shards", entry.shards)
    return findings


def _shard(key: str, index: int | None, number_key: str, number: int | None) -> Iterator[Finding]:
    short = number_key.rpartition(".")[2]
    if index is None:
        return
    if number is None:
        yield Finding(key, f"needs {short} (how many parts there are)", f"set {short}, or remove it")
    elif not 0 <= index < number:
        yield Finding(
            key, f"found {index}, expected a part from 0 to {number - 1} ({short}: {number})", "parts count from 0"
        )


def synthetic_ids(recipe: Recipe) -> list[Finding]:
    """The range of made-up tokens is not empty."""
    findings: list[Finding] = []
    for index, entry in enumerate(recipe.data.datasets):
        if entry.max_input_id is not None and entry.max_input_id <= entry.min_input_id:
            message = f"{entry.max_input_id} is not above min_input_id, {entry.min_input_id}"
            findings.append(Finding(f"datasets.{index}.max_input_id", message, "raise it, or lower min_input_id"))
    return findings


_STREAMED = "streamed rows are never all there"
_LENGTH = "nobody knows how long a stream is, nor when its learning rate ends"
LAWS = (
    Needs(on("streaming"), (on("max_steps"),), _LENGTH, "for example max_steps: 1000"),
    Needs(on("pretraining_dataset"), (on("max_steps"),), _LENGTH, "for example max_steps: 1000"),
    Excludes(on("val_set_size"), on("streaming"), _STREAMED + " to be held out", "give test_datasets"),
    Excludes(on("val_set_size"), on("pretraining_dataset"), _STREAMED + " to be held out", "give test_datasets"),
    Excludes(
        on("datasets"), on("pretraining_dataset"), "the two are read in different ways, and only one can be trained",
        "keep one of the two",
    ),
    Excludes(on("group_by_length"), on("streaming"), _STREAMED + " to be sorted", "remove group_by_length"),
    Excludes(on("group_by_length"), on("pretraining_dataset"), _STREAMED + " to be sorted", "remove group_by_length"),
    Excludes(on("dataset_exact_deduplication"), on("streaming"), _STREAMED + " to be compared", "remove it"),
    Excludes(on("dataset_exact_deduplication"), on("pretraining_dataset"), _STREAMED + " to be compared", "remove it"),
    Excludes(
        on("dataset_exact_deduplication"), on("skip_prepare_dataset"), "rows are compared while they are prepared",
        "remove the one or the other",
    ),
    Excludes(
        on("push_dataset_to_hub"), on("skip_prepare_dataset"), "it is prepared data that is sent",
        "remove the one or the other",
    ),
    Only(
        ("streaming_multipack_buffer_size", "pretrain_multipack_attn", "pretraining_sample_concatenation"),
        (on("streaming"), on("pretraining_dataset")),
    ),
    Excludes(
        on("curriculum_sampling"), on("shuffle_before_merging_datasets"), "it keeps the data's own order",
        "remove the one or the other",
    ),
)  # fmt: skip
