"""Names and shapes of the tensors of a model folder, read from the headers of its safetensors files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""The largest header that the safetensors library itself reads (safetensors/src/tensor.rs, MAX_HEADER_SIZE)."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class StoredShapes:
    shapes: Shapes | None
    """By tensor name; None where they could not be read."""
    reason: str | None = None
    """Why `shapes` is None."""


class _Unreadable(Exception):
    """A file that is missing, cut short or not what its name says."""


def read_shapes(folder: Path) -> StoredShapes:
    """Shapes of model.safetensors, else of every shard that model.safetensors.index.json names. Never raises for what
    the files are like: a missing or damaged file gives None and the reason."""
    try:
        shapes: dict[str, tuple[int, ...]] = {}
        for file in _files(folder):
            shapes.update(_header_shapes(file))
        return StoredShapes(shapes)
    except _Unreadable as error:
        return StoredShapes(None, str(error))


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        raise _Unreadable(f"{folder} has no {WEIGHTS}")
    content = _json(_bounded(index, index.stat().st_size), index)
    places = content.get("weight_map")
    named = list(cast("dict[str, Any]", places).values()) if isinstance(places, dict) else []
    if not named or not all(isinstance(name, str) and Path(name).name == name for name in named):
        raise _Unreadable(f"{index} names no files of this folder under weight_map")
    return [folder / name for name in sorted(set(named))]


def _header_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The format: 8 bytes little-endian length, then so many bytes of JSON `{name: {"shape": [...], ...}}`
    (safetensors README, Format)."""
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8 or length > MAX_HEADER_BYTES:
                raise _Unreadable(f"{file} is cut short or no safetensors file")
            header = _json(stream.read(length), file)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise _Unreadable(f"{file} cannot be read: {error}") from error
    header.pop("__metadata__", None)
    return {name: _shape(entry, name, file) for name, entry in header.items()}


def _shape(entry: Any, name: str, file: Path) -> tuple[int, ...]:
    sizes = cast("dict[str, Any]", entry).get("shape") if isinstance(entry, dict) else None
    if isinstance(sizes, list):
        sizes = cast("list[Any]", sizes)
        if all(type(size) is int and size >= 0 for size in sizes):
            return tuple(sizes)
    raise _Unreadable(f"{file} describes the tensor {name} wrongly")


def _bounded(file: Path, size: int) -> bytes:
    if size > MAX_HEADER_BYTES:
        raise _Unreadable(f"{file} is too large for an index")
    try:
        return file.read_bytes()
    except OSError as error:
        raise _Unreadable(f"{file} cannot be read: {error.strerror or error}") from error


def _json(content: bytes, file: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _Unreadable(f"{file} is damaged: its header is no JSON object")
    return cast("dict[str, Any]", parsed)
