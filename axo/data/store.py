"""Prepared samples on disk: an Arrow data set that `datasets.load_from_disk` opens and axo reads memory-mapped.

A store is a folder: `data-00000-of-00001.arrow` (IPC stream; columns input_ids and labels, lists of int32, and
loss_weight, lists of float32, only where some token counts other than 0 or 1), `state.json` and `dataset_info.json` as
`datasets` writes them, `index.safetensors` (of each sample: tokens, trained tokens, number of its data set, and its
side where answers are compared) and `axo.json` (what was counted). It is written under another name and renamed when
it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from axo.data.report import DESCRIPTION
from axo.data.sample import Sample, SampleBatch, batch_of, plain_weights
from axo.errors import DataError

_DATA = "data-00000-of-00001.arrow"
_INDEX = "index.safetensors"
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
_WEIGHTED_SCHEMA = _SCHEMA.append(pa.field("loss_weight", pa.list_(pa.float32())))
SIDES = ("", "chosen", "rejected", "desirable", "undesirable")
"""What is said of an answer that is compared, by its number in the index; 0: the sample is compared with nothing."""


class Store:
    """Samples by number; what it hands out are views of the mapped file and must not be written to."""

    lengths: np.ndarray
    """(samples,) int32: tokens of each sample."""
    trained: np.ndarray
    """(samples,) int32: targets of each sample that are trained (labels from the second token on)."""
    sets: np.ndarray
    """(samples,) int16: number of the data set that each sample is of."""
    num_sets: int
    """Data sets that have a number, up to the last that has a sample."""
    sides: np.ndarray
    """(samples,) int8: number in SIDES of each sample."""

    def __init__(self, folder: Path) -> None:
        self._file = pa.memory_map(str(folder / _DATA)).read_buffer()
        index = load_file(folder / _INDEX)
        self.lengths, self.trained = index["lengths"], index["trained"]
        self.sets, self.sides = index["sets"], index["sides"]
        self.num_sets = int(self.sets.max(initial=0)) + 1
        # All numbers of the file as one array: a sample is then a slice of it, in whatever record batch it stands.
        numbers = np.frombuffer(self._file, dtype=np.int32, count=self._file.size // 4)
        self._columns = (numbers, numbers, numbers.view(np.float32))
        self._starts = self._find_samples()
        if self._starts.shape[1] != len(self.lengths):
            raise ValueError(f"{self._starts.shape[1]} samples, but the index has {len(self.lengths)}")

    def _find_samples(self) -> np.ndarray:
        """(columns, samples) int64: where the values of each sample begin in the file, in units of 4 bytes."""
        starts: list[np.ndarray] = []
        columns = len(_SCHEMA)
        for batch in pa.ipc.open_stream(pa.BufferReader(self._file)):
            columns = batch.num_columns
            offsets = _as_numpy(batch.column(0).offsets, np.int32)[:-1].astype(np.int64)
            places = [self._place(batch.column(number).values) for number in range(columns)]
            starts.append(np.array(places)[:, None] + offsets)
        return np.concatenate([np.zeros((columns, 0), dtype=np.int64), *starts], axis=1)

    def _place(self, values: pa.Array) -> int:
        buffer = values.buffers()[1]
        place = 0 if buffer is None else buffer.address - self._file.address
        if place % 4 or not 0 <= place <= self._file.size:
            raise ValueError("its values do not lie in the file")
        return place // 4 + values.offset

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, labels) of a sample, int32, labels not shifted."""
        one = np.array([sample])
        return self._pieces(0, one)[0], self._pieces(1, one)[0]

    def ids(self, samples: np.ndarray) -> list[np.ndarray]:
        """The tokens of each of these samples, int32."""
        return self._pieces(0, samples)

    def labels(self, samples: np.ndarray) -> list[np.ndarray]:
        """Their labels, int32, not shifted."""
        return self._pieces(1, samples)

    def weights(self, samples: np.ndarray) -> list[np.ndarray]:
        """How much each of their tokens counts, float32; only of a weighted store."""
        return self._pieces(2, samples)

    @property
    def is_weighted(self) -> bool:
        """Whether some token counts other than 0 or 1."""
        return len(self._starts) > len(_SCHEMA)

    def _pieces(self, column: int, samples: np.ndarray) -> list[np.ndarray]:
        values, begins = self._columns[column], self._starts[column][samples]
        ends = begins + self.lengths[samples]
        return [values[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def open_store(path: Path) -> Store:
    """The store in this folder. DataError where there is none or it is damaged."""
    try:
        return Store(path)
    except (OSError, ValueError, KeyError, SafetensorError, pa.ArrowException) as error:
        raise DataError(
            f"this is no whole store of prepared data: {error}", "delete the folder and prepare again", file=str(path)
        ) from error


class StoreWriter:
    """Writes samples as they come; memory does not grow with them but for some bytes each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._schema = _SCHEMA
        self._open()
        self._index: dict[str, list[np.ndarray]] = {name: [] for name in _INDEX_TYPES}

    def append(
        self, samples: Sequence[Sample] | SampleBatch, *, dataset: int = 0, sides: Sequence[int] | None = None
    ) -> None:
        """Write the samples of a data set as one record batch; `sides` are numbers of SIDES."""
        if not samples:
            return
        batch = samples if isinstance(samples, SampleBatch) else batch_of(samples)
        if self._schema is _SCHEMA and batch.weights is not None:
            self._begin_weights()
        offsets = _as_arrow(np.concatenate([[0], np.cumsum(batch.lengths, dtype=np.int64)]).astype(np.int32))
        values = [batch.ids, batch.labels]
        if self._schema is _WEIGHTED_SCHEMA:
            values.append(plain_weights(batch.labels) if batch.weights is None else batch.weights)
        columns = [pa.ListArray.from_arrays(offsets, _as_arrow(column)) for column in values]
        self._stream.write_batch(pa.record_batch(columns, schema=self._schema))
        index = {
            "lengths": batch.lengths,
            "trained": batch.trained,
            "sets": [dataset] * len(batch),
            "sides": sides or [0] * len(batch),
        }
        for name, column in index.items():
            self._index[name].append(np.array(column, dtype=_INDEX_TYPES[name]))

    def finish(self, description: Mapping[str, Any]) -> None:
        """Complete the folder and bring all of it to the disk."""
        self._close()
        index = {
            name: np.concatenate([np.zeros(0, dtype=_INDEX_TYPES[name]), *columns])
            for name, columns in self._index.items()
        }
        save_file(index, self._folder / _INDEX)
        files = (*_dataset_files(self._folder.name, self._schema), (DESCRIPTION, description))
        for name, content in files:
            (self._folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        for path in (*self._folder.iterdir(), self._folder):
            _sync(path)

    def _open(self) -> None:
        self._sink = pa.OSFile(str(self._folder / _DATA), "wb")
        self._stream = pa.ipc.new_stream(self._sink, self._schema)

    def _begin_weights(self) -> None:
        """Write again what is written, with a weight for each token, and go on so."""
        self._close()
        former = self._folder / f"{_DATA}.plain"
        (self._folder / _DATA).rename(former)
        self._schema = _WEIGHTED_SCHEMA
        self._open()
        with pa.memory_map(str(former)) as file:
            for batch in pa.ipc.open_stream(file):
                labels = batch.column(1)
                ones = plain_weights(_as_numpy(labels.values, np.int32))
                weights = pa.ListArray.from_arrays(labels.offsets, _as_arrow(ones))
                self._stream.write_batch(pa.record_batch([*batch.columns, weights], schema=self._schema))
        former.unlink()

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


_INDEX_TYPES = {"lengths": np.int32, "trained": np.int32, "sets": np.int16, "sides": np.int8}


def _as_numpy(array: pa.Array, dtype: type[np.generic]) -> np.ndarray:
    """The same numbers, not copied. (`to_numpy` and `pa.array` import pandas where it is: 0.2 s.)"""
    buffer = array.buffers()[1]
    count = len(array) + array.offset
    return np.zeros(0, dtype) if buffer is None else np.frombuffer(buffer, dtype, count)[array.offset :]


def _as_arrow(values: np.ndarray) -> pa.Array:
    """The same numbers, not copied."""
    kind = pa.float32() if values.dtype == np.float32 else pa.int32()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _dataset_files(name: str, schema: pa.Schema) -> tuple[tuple[str, dict[str, Any]], ...]:
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
    features = {
        field.name: {"feature": {"dtype": _DTYPES[field.type.value_type], "_type": "Value"}, "_type": "List"}
        for field in schema
    }
    return ("state.json", state), ("dataset_info.json", {"citation": "", "description": "", "features": features})


_DTYPES = {pa.int32(): "int32", pa.float32(): "float32"}
"""Arrow type -> the name that `datasets` has for it."""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
