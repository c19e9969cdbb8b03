"""Rows and text of one data file, counted where that is quick and extrapolated where it is not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

COUNTED_BYTES = 64 * 2**20
"""Of each file of lines: what lies beyond is extrapolated."""
PARSED_BYTES = 16 * 2**20
"""The largest list of JSON or CSV file that is read as a whole; of a larger one only the sample is."""
SAMPLE_BYTES = 2**20
_BLOCK_BYTES = 2**20
_LINES = (".jsonl", ".json", ".txt")

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FileEstimate:
    path: Path
    num_bytes: int | None
    """None: the file cannot be read."""
    rows: int | None = None
    """None: not known (a Parquet file, or one that is damaged)."""
    text_bytes: int | None = None
    """UTF-8 bytes of all texts in the rows, without names of fields, quotes and commas; never exact."""
    exact: bool = False
    """`rows` was counted to the end of the file."""
    messages: int | None = None
    """Mappings in lists, as those of a conversation; known with `text_bytes`, and never exact either."""


def estimate_file(path: Path, kind: str) -> FileEstimate:
    """Rows and text of one file of this kind. Parquet gives its bytes only: its reader takes too long to import."""
    try:
        size = path.stat().st_size
        if kind in _LINES and (kind == ".txt" or not _is_list(path)):
            return _of_lines(path, size, plain=kind == ".txt")
        if kind in (*_LINES, ".csv"):
            return _of_records(path, size, _list_items if kind in _LINES else _csv_records)
    except OSError:
        return FileEstimate(path, None)
    return FileEstimate(path, size)


def _of_lines(path: Path, size: int, *, plain: bool) -> FileEstimate:
    """A row on each line that is not blank: counted block by block, so that no line has to fit into memory."""
    rows = seen = 0
    started = False
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
        file.seek(0)
        while seen < COUNTED_BYTES and (block := file.read(_BLOCK_BYTES)):
            seen += len(block)
            first, *others = block.split(b"\n")
            started = started or bool(first.strip())
            for line in others:
                rows += started
                started = bool(line) and not line.isspace()
    rows += started
    whole = seen >= size
    try:
        share = (1.0, 0.0) if plain else _shares(sample, whole=len(sample) >= size)
    except (ValueError, RecursionError):
        return FileEstimate(path, size)
    text_bytes, messages = (None, None) if share is None else (round(part * size) for part in share)
    rows = rows if whole else round(rows * size / max(seen, 1))
    return FileEstimate(path, size, rows, text_bytes, exact=whole, messages=messages)


def _shares(sample: bytes, *, whole: bool) -> tuple[float, float] | None:
    """Bytes of text and messages for each byte of JSON lines; None where the first line is longer than the sample.
    ValueError where a line is no JSON."""
    sample = sample.removeprefix(_BOM)
    lines = [line for line in (sample if whole else sample[: sample.rfind(b"\n") + 1]).split(b"\n") if line.strip()]
    rows = [json.loads(line) for line in lines]
    num_bytes = sum(len(line) + 1 for line in lines)
    return (sum(map(_text_bytes, rows)) / num_bytes, sum(map(_messages, rows)) / num_bytes) if num_bytes else None


def _of_records(path: Path, size: int, records: Callable[[str], Iterator[tuple[Any, int]]]) -> FileEstimate:
    """A small file is read to its end; of a larger one what lies in the sample stands for the rest."""
    whole = size <= PARSED_BYTES
    with path.open("rb") as file:
        content = file.read() if whole else file.read(SAMPLE_BYTES)
    rows = text_bytes = messages = end = 0
    text = content.decode("utf-8", errors="replace").removeprefix("\ufeff")
    try:
        for record, position in records(text):
            rows, end = rows + 1, position
            text_bytes, messages = text_bytes + _text_bytes(record), messages + _messages(record)
    except (ValueError, RecursionError, csv.Error):
        if whole:
            return FileEstimate(path, size)
    if whole:
        return FileEstimate(path, size, rows, text_bytes, exact=True, messages=messages)
    if rows == 0:
        return FileEstimate(path, size)
    scale = size / len(text[:end].encode())
    return FileEstimate(path, size, round(rows * scale), round(text_bytes * scale), messages=round(messages * scale))


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(_BOM).lstrip().startswith(b"[")


def _list_items(text: str) -> Iterator[tuple[Any, int]]:
    """Items of a JSON list, each with the position behind it. ValueError where it is broken or cut off."""
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    while not text.startswith("]", position := _skip(text, position, " \t\r\n")):
        item, position = decoder.raw_decode(text, position)
        yield item, position
        position = _skip(text, position, " \t\r\n")
        if not text.startswith((",", "]"), position):
            raise ValueError("no list")
        position += text.startswith(",", position)


def _skip(text: str, position: int, characters: str) -> int:
    while text[position : position + 1] in characters and position < len(text):
        position += 1
    return position


def _csv_records(text: str) -> Iterator[tuple[Any, int]]:
    """Records below the header, each with the position behind its last line. csv.Error where one is broken."""
    ends = [0]

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline="\n"):
            ends.append(ends[-1] + len(line))
            yield line

    for number, record in enumerate(record for record in csv.reader(lines(), strict=True) if record):
        if number:
            yield record, ends[-1]


def _text_bytes(value: Any) -> int:
    """UTF-8 bytes of every text inside a value of JSON, names of fields left out."""
    if isinstance(value, str):
        return len(value.encode("utf-8", errors="replace"))
    if isinstance(value, dict):
        return sum(_text_bytes(item) for item in cast("dict[str, Any]", value).values())
    return sum(_text_bytes(item) for item in cast("list[Any]", value)) if isinstance(value, list) else 0


def _messages(value: Any) -> int:
    """Mappings that are items of a list, at any depth."""
    if isinstance(value, dict):
        return sum(map(_messages, cast("dict[str, Any]", value).values()))
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return sum(isinstance(item, dict) + _messages(item) for item in items)
