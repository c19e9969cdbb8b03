"""Data sets of a hub, which `datasets` loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axo.data.rows import Row
from axo.data.source_place import nearby
from axo.data.source_selection import shard_rows
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


def load_from_hub(entry: DatasetEntry) -> Any:
    """The split of a hub's data set as a `datasets.Dataset`. DataError where it cannot be loaded."""
    import datasets
    from datasets.exceptions import DatasetsError

    if isinstance(entry.name, list):
        message = "a list of names cannot be read as one data set"
        raise DataError(message, "write a data set for each name", file=entry.path)
    split = re.sub(r"\s*\+\s*", "+", entry.split)
    try:
        return datasets.load_dataset(
            entry.path, name=entry.name, data_files=entry.data_files, split=split, revision=entry.revision
        )
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise DataError(
            f"no such file or folder here, and loading it as a hub data set failed: {first_line}",
            f"{nearby(Path(entry.path))}; for a hub data set check path, name, split and revision, and the network",
            file=entry.path,
        ) from error


def hub_rows(entry: DatasetEntry, *, seed: int, skip: int) -> Iterator[Row]:
    """Rows of the split, or of one of its `shards`, numbered as they come."""
    dataset = load_from_hub(entry)
    if entry.shards is not None:
        rows = shard_rows(len(dataset), shards=entry.shards, index=entry.shards_idx or 0, seed=seed)
        dataset = dataset.select(rows, keep_in_memory=True)
    if skip:
        dataset = dataset.select(range(min(skip, len(dataset)), len(dataset)), keep_in_memory=True)
    number = skip
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        for values in batch.to_pylist():
            number += 1
            yield Row(values, entry.path, number)
