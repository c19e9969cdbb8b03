"""Rules about where rows come from, in which order, and how many of them."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe.data_lacks import entries
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.table_rules import Excludes, Keys, Needs, Only, When, on


def shards(recipe: Recipe) -> list[Finding]:
    """A shard is one of those that there are, counted from 0."""
    data, keys = recipe.data, Keys(recipe)
    findings = list(_shard("dataset_shard_idx", data.dataset_shard_idx, "dataset_shard_num", data.dataset_shard_num))
    if (data.dataset_shard_num or 1) > 1 and data.dataset_shard_idx is None:
        message = f"{data.dataset_shard_num} parts, but dataset_shard_idx does not say which is trained"
        findings.append(Finding("dataset_shard_num", message, "set dataset_shard_idx, for example to 0"))
    for name in ("datasets", "test_datasets", "pretraining_dataset"):
        for index, entry in enumerate(keys[name] or []):
            place = f"{name}.{index}"
            findings += _shard(f"{place}.shards_idx", entry.shards_idx, f"{place}.shards", entry.shards)
    return findings


def mixtures(recipe: Recipe) -> list[Finding]:
    """How often a data set is taken is said in one way, by as many as can be compared, and of training data alone."""
    data = recipe.data
    findings = [
        Finding(f"{place}.{key}", "only training data is taken more or less often", f"remove {key}")
        for place, key in _not_trained(recipe)
    ]
    weighted = [at for at, entry in enumerate(data.datasets) if entry.weight is not None]
    for at, entry in enumerate(data.datasets):
        if entry.weight is not None and entry.repeat is not None:
            message = "weight and repeat both say how often the samples come"
            findings.append(Finding(f"datasets.{at}.weight", message, "keep one of the two"))
        elif weighted and entry.weight is None and entry.repeat is None:
            message = f"has neither weight nor repeat, but datasets.{weighted[0]} has a weight"
            findings.append(Finding(f"datasets.{at}", message, "give it a weight too, or repeat: 1 to take it once"))
    others = [entry for at, entry in enumerate(data.datasets) if [at] != weighted]
    if len(weighted) == 1 and all(entry.repeat is not None for entry in others):
        message = "a weight is relative to those of other data sets, and no other has one"
        findings.append(Finding(f"datasets.{weighted[0]}.weight", message, "set repeat instead, or remove it"))
    return findings


def _not_trained(recipe: Recipe) -> Iterator[tuple[str, str]]:
    others = {"test_datasets": recipe.data.test_datasets, "pretraining_dataset": recipe.data.pretraining_dataset}
    for name, given in others.items():
        for index, entry in enumerate(given or []):
            for key in ("weight", "repeat"):
                if getattr(entry, key) is not None:
                    yield f"{name}.{index}", key


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


def streams(recipe: Recipe) -> list[Finding]:
    """Rows can be passed over in a stream alone, and no data set of a stream is taken more often than another."""
    data = recipe.data
    findings = [
        Finding(f"{key}.skip", "has no effect on data that is prepared before training", HOW_TO_SKIP)
        for key, entry in entries(recipe)
        if entry.skip and entry not in data.streamed
    ]
    for index, entry in enumerate(data.datasets if data.streaming else ()):
        for name in ("weight", "repeat"):
            if getattr(entry, name) is not None:
                message = "streamed data sets are read one after the other, each of them once in a pass"
                findings.append(Finding(f"datasets.{index}.{name}", message, f"remove {name}, or streaming"))
    return findings


def remarks(recipe: Recipe) -> list[Note]:
    """Keys of a stream that do nothing in this one."""
    data, packed = recipe.data, recipe.batch.sample_packing
    given = data.model_fields_set
    said: list[Note] = []
    if data.pretraining_dataset is None:
        keys = [key for key in ("pretrain_multipack_attn", "pretraining_sample_concatenation") if key in given]
        return [Remark((key,), "only the texts of pretraining_dataset may see each other") for key in keys]
    if data.streaming is False:
        said.append(Remark(("streaming",), "pretraining_dataset is always read while training goes on"))
    if "pretrain_multipack_attn" in given and not packed:
        said.append(Remark(("pretrain_multipack_attn",), "sample_packing is off"))
    if data.pretraining_sample_concatenation and packed:
        said.append(Remark(("pretraining_sample_concatenation",), "sample_packing fills the rows"))
    return said


def _not_streamed(first: When, why: str, do: str) -> tuple[Excludes, ...]:
    return tuple(Excludes(first, on(key), why, do) for key in ("streaming", "pretraining_dataset"))


HOW_TO_SKIP = "write it as a part of the split, such as split: train[1000:]"
_STREAMED = "streamed rows are never all there"
_ONE_AFTER_ANOTHER = "a stream reads its data sets one after the other, a buffer of rows at a time"
_LENGTH = "nobody knows how long a stream is, nor when its learning rate ends"
LAWS = (
    Needs(on("streaming"), (on("max_steps"),), _LENGTH, "for example max_steps: 1000"),
    Needs(on("pretraining_dataset"), (on("max_steps"),), _LENGTH, "for example max_steps: 1000"),
    *_not_streamed(on("val_set_size"), _STREAMED + " to be held out", "give test_datasets"),
    Excludes(
        on("datasets"), on("pretraining_dataset"), "the two are read in different ways, and only one can be trained",
        "keep one of the two",
    ),
    *_not_streamed(on("group_by_length"), _STREAMED + " to be sorted", "remove group_by_length"),
    *_not_streamed(on("balance_window"), _STREAMED + " to be exchanged between steps", "remove balance_window"),
    *_not_streamed(on("dataset_exact_deduplication"), _STREAMED + " to be compared", "remove it"),
    *_not_streamed(
        on("curriculum_sampling"), _ONE_AFTER_ANOTHER,
        "set shuffle_merged_datasets: false instead, which keeps the order of the rows",
    ),
    *_not_streamed(on("shuffle_before_merging_datasets"), _ONE_AFTER_ANOTHER, "remove it"),
    *_not_streamed(
        on("dataset_shard_num"), _STREAMED + " to be cut into parts", "set shards and shards_idx of each data set",
    ),
    Excludes(on("streaming"), on("rl"), "answers that are compared are prepared before", "remove the one or the other"),
    Excludes(
        on("streaming"), on("reward_model"), "answers that are compared are prepared before",
        "remove the one or the other",
    ),
    Excludes(
        on("streaming"), on("process_reward_model"), "steps that are judged are prepared before",
        "remove the one or the other",
    ),
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
