"""One safetensors file, memory-mapped: tensors are read block by block without ever loading the file.

The format (safetensors, `README.md` of huggingface/safetensors): 8 bytes little-endian header length, a JSON
header `{name: {dtype, shape, data_offsets}, "__metadata__": {...}}`, then the tensors' bytes, little-endian.
"""

from __future__ import annotations

import json
import math
import mmap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from axo.errors import CheckpointError

FLOATS: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The number formats that can be added to or converted; every other tensor is copied byte by byte."""

_ALL = {**FLOATS, "I64": torch.int64, "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8}

_DAMAGED = "copy or download the file again"
_ALIGNMENT_BYTES = 8


@dataclass(frozen=True)
class Entry:
    """A tensor as the header describes it; `start` and `end` are byte offsets from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def num_rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        return (self.end - self.start) // max(1, self.num_rows)


@dataclass(frozen=True)
class TensorFile:
    """The entries of a file in the order of their bytes, and the file's bytes as one uint8 tensor over the map."""

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]
    content: torch.Tensor


@dataclass(frozen=True)
class Stored:
    """One tensor of a file; its values are pages of the map until they are converted."""

    file: TensorFile
    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def dtype(self) -> str:
        return self.entry.dtype

    def data(self, start: int, stop: int) -> torch.Tensor:
        """The bytes of rows [start, stop), uint8 (n,), a view."""
        first, size = self.entry.start, self.entry.row_bytes
        return self.file.content[first + start * size : first + stop * size]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) as (stop - start, rest) in the stored dtype, a view where the bytes are aligned."""
        data, dtype = self.data(start, stop), FLOATS[self.entry.dtype]
        aligned = data if data.storage_offset() % dtype.itemsize == 0 else data.clone()
        return aligned.view(dtype).view(stop - start, math.prod(self.entry.shape[1:]))

    def matrix(self) -> torch.Tensor:
        """The whole tensor, (rows, rest)."""
        return self.rows(0, self.entry.num_rows)

    def codes(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The whole tensor in its own number format, whole numbers too; as `dtype`: its bytes read so, flat."""
        data = self.data(0, self.entry.num_rows).clone()  # aligned
        return data.view(dtype) if dtype is not None else data.view(_ALL[self.entry.dtype]).view(self.entry.shape)


def open_tensors(path: Path) -> TensorFile:
    """Map `path` and check that its header fits its size.

    Raises:
        CheckpointError: the file is missing, cut short, or no safetensors file.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if size > 8 and length <= size - 8 else None
            content = _map(stream.fileno()) if header is not None else None
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file", _DAMAGED) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}", _DAMAGED) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is not JSON: no intact safetensors file", _DAMAGED) from error
    if content is None or not isinstance(header, dict):
        raise CheckpointError(f"{path}: {size} bytes are too few for its header: the file is cut short", _DAMAGED)
    metadata = header.pop("__metadata__", {})
    return TensorFile(path, metadata, _entries(path, header, start=8 + length, size=size), content)


def encode_header(metadata: Mapping[str, str], shapes: Mapping[str, tuple[str, tuple[int, ...], int]]) -> bytes:
    """Length and JSON header, padded with spaces to 8 bytes, for tensors `name -> (dtype, shape, num_bytes)` laid
    out one after the other."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape, num_bytes) in shapes.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + num_bytes]}
        offset += num_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _map(descriptor: int) -> torch.Tensor:
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        # A read-only map is what we want: a private writable one would count against the commit limit.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(mapped, dtype=torch.uint8)


def _entries(path: Path, header: dict[str, dict], *, start: int, size: int) -> dict[str, Entry]:
    try:
        entries = [
            Entry(name, str(raw["dtype"]), tuple(raw["shape"]), *(start + int(at) for at in raw["data_offsets"]))
            for name, raw in header.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the header describes a tensor wrongly ({error!r})", _DAMAGED) from error
    for entry in entries:
        _check_extent(path, entry, start=start, size=size)
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.start)}


def _check_extent(path: Path, entry: Entry, *, start: int, size: int) -> None:
    if not start <= entry.start <= entry.end <= size:
        raise CheckpointError(f"{path}: tensor {entry.name} lies beyond the end: the file is cut short", _DAMAGED)
    dtype = FLOATS.get(entry.dtype)
    if dtype is not None and entry.end - entry.start != math.prod(entry.shape) * dtype.itemsize:
        raise CheckpointError(f"{path}: tensor {entry.name} has a size that does not fit its shape", _DAMAGED)
