"""Rows that were there before: equal in every column, whatever data set they are of (dataset_exact_deduplication)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from safetensors.numpy import load_file, save_file

from axo.data.rows import Row

ROWS = "rows.safetensors"
"""File of a store that was made without duplicates: a hash of each row that was read, rows of two uint64."""


class RowFilter:
    """Remembers a hash of each row, 83 bytes as Python holds them; `known` are those of a store whose rows count as
    seen (training rows, for evaluation data)."""

    def __init__(self, known: Path | None = None) -> None:
        before = [] if known is None else load_file(known / ROWS)["rows"]
        self._seen = {row.tobytes() for row in before}

    def is_new(self, row: Row) -> bool:
        """Whether no equal row came before; from now on this one did."""
        before = len(self._seen)
        self._seen.add(row_hash(row))
        return len(self._seen) > before

    def save(self, store: Path) -> None:
        """Write the rows that are known into the folder of a store."""
        rows = np.frombuffer(b"".join(sorted(self._seen)), dtype=np.uint64).reshape(-1, 2)
        save_file({"rows": rows}, store / ROWS)


def row_hash(row: Row) -> bytes:
    """xxh3-128 of the row as canonical JSON: keys sorted, and a column that is null counts as one that is not there."""
    values = {key: value for key, value in row.values.items() if value is not None}
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_in_words)
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def _in_words(value: Any) -> str:
    """What JSON has no form for: bytes, dates, pictures."""
    return f"{type(value).__qualname__} {value!r}"
