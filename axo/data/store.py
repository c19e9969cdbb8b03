"""Prepared samples on disk: an Arrow data set that `datasets.load_from_disk` opens and axo reads memory-mapped.

A store is a folder: `data-00000-of-00001.arrow` (IPC stream; columns input_ids and labels, lists of int32),
`state.json` and `dataset_info.json` as `datasets` writes them, `index.safetensors` (tokens and trained tokens of each
sample) and `axo.json` (what was counted). It is written under another name and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from axo.data.report import DESCRIPTION
from axo.errors import DataError
from axo.types import IGNORE_INDEX

if TYPE_CHECKING:
    from axo.data.tokenize import Sample

_DATA = "data-00000-of-00001.arrow"
_INDEX = "index.safetensors"
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


class Store:
    """Samples by number; what it hands out are views of the mapped file and must not be written to."""

    lengths: np.ndarray
    """(samples,) int32: tokens of each sample."""
    trained: np.ndarray
    """(samples,) int32: targets of each sample that are trained (labels from the second token on)."""

    def __init__(self, folder: Path) -> None:
        self._file = pa.memory_map(str(folder / _DATA))
        index = load_file(folder / _INDEX)
        self.lengths, self.trained = index["lengths"], index["trained"]
        self._values: list[tuple[np.ndarray, np.ndarray]] = []
        starts, batches = [], []
        for number, batch in enumerate(pa.ipc.open_stream(self._file)):
            ids, labels = batch.column(0), batch.column(1)
            self._values.append((ids.values.to_numpy(), labels.values.to_numpy()))
            starts.append(ids.offsets.to_numpy()[:-1].astype(np.int64))
            batches.append(np.full(len(batch), number, dtype=np.int64))
        self._starts, self._batches = np.concatenate(starts), np.concatenate(batches)
        if len(self._starts) != len(self.lengths):
            raise ValueError(f"{len(self._starts)} samples, but the index has {len(self.lengths)}")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, labels) of a sample, int32, labels not shifted."""
        ids, labels = self._values[self._batches[sample]]
        start = int(self._starts[sample])
        end = start + int(self.lengths[sample])
        return ids[start:end], labels[start:end]


def open_store(path: Path) -> Store:
    """The store in this folder. DataError where there is none or it is damaged."""
    try:
        return Store(path)
    except (OSError, ValueError, KeyError, SafetensorError, pa.ArrowException) as error:
        raise DataError(
            f"this is no whole store of prepared data: {error}", "delete the folder and prepare again", file=str(path)
        ) from error


class StoreWriter:
    """Writes samples as they come; memory does not grow with them but for eight bytes each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._sink = pa.OSFile(str(folder / _DATA), "wb")
        self._stream = pa.ipc.new_stream(self._sink, _SCHEMA)
        self._lengths: list[np.ndarray] = []
        self._trained: list[np.ndarray] = []

    def append(self, samples: Sequence[Sample]) -> None:
        """Write the samples as one record batch."""
        if not samples:
            return
        lengths = np.array([len(sample.ids) for sample in samples], dtype=np.int32)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(values)))
            for values in ([sample.ids for sample in samples], [sample.labels for sample in samples])
        ]
        self._stream.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        self._lengths.append(lengths)
        self._trained.append(np.array([count_trained(sample.labels) for sample in samples], dtype=np.int32))

    def finish(self, description: Mapping[str, Any]) -> None:
        """Complete the folder and bring all of it to the disk."""
        self._close()
        index = {"lengths": np.concatenate(self._lengths), "trained": np.concatenate(self._trained)}
        save_file(index, self._folder / _INDEX)
        for name, content in (*_dataset_files(self._folder.name), (DESCRIPTION, description)):
            (self._folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        for path in (*self._folder.iterdir(), self._folder):
            _sync(path)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if not self._sink.closed:
            self._stream.close()
            self._sink.close()


def move_into_place(folder: Path, target: Path) -> None:
    """Give a finished store its name, at once and to last."""
    folder.rename(target)
    _sync(target.parent)


def count_trained(labels: np.ndarray) -> int:
    """Targets that are trained: the first token of a sample is never one."""
    return int(np.count_nonzero(labels[1:] != IGNORE_INDEX))


def _dataset_files(name: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The two JSON files that make `datasets.load_from_disk` open the folder (as datasets 5 saves them)."""
    state = {
        "_data_files": [{"filename": _DATA}],
        "_fingerprint": xxhash.xxh3_64_hexdigest(name.encode()),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    lists_of_int32 = {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}
    features = dict.fromkeys(_SCHEMA.names, lists_of_int32)
    return ("state.json", state), ("dataset_info.json", {"citation": "", "description": "", "features": features})


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
