"""`type: _synthetic`: rows of random tokens, for measuring speed and memory without any data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from axo.data.formats.format import Setting
from axo.data.messages import Tokens
from axo.data.rows import Row, required
from axo.errors import Finding, RecipeError

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class Synthetic:
    keys: ClassVar[tuple[str, ...]] = ("length", "sequence_length", "min_input_id", "max_input_id", "seed")
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._length = entry.length
        self._sequence_length = entry.sequence_length or setting.sequence_len
        self._seed = setting.seed if entry.seed is None else entry.seed
        self.fingerprint = f"seed {self._seed}"
        """Part of the cache key: an unset seed is no key of the entry."""
        self._range = _range(entry, setting.vocab_size)
        self._file = entry.path

    def made_up_rows(self) -> Iterator[Row]:
        """All rows, those of a file being none; the same for the same seed."""
        for line, values in enumerate(self.example_rows(self._length), start=1):
            yield Row(values, self._file, line)

    def read(self, row: Row) -> Tokens:
        """All tokens of the row, all trained."""
        ids = required(row, "input_ids")
        return Tokens(ids, ids)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        drawn = np.random.default_rng(self._seed)
        return [{"input_ids": drawn.integers(*self._range, size=self._sequence_length).tolist()} for _ in range(count)]


def _range(entry: DatasetEntry, vocab_size: int) -> tuple[int, int]:
    """Smallest token and the one that is not reached any more. RecipeError where there is none between them."""
    low = entry.min_input_id
    high = entry.max_input_id or vocab_size or low + 1  # an unknown vocabulary is that of example rows
    if vocab_size and high > vocab_size:
        message = f"{high} is above the size of the vocabulary, {vocab_size}"
        raise RecipeError([Finding("datasets.max_input_id", message, "lower it, or leave it out")])
    if high <= low:
        message = f"found {low}, expected a token below {high}"
        raise RecipeError([Finding("datasets.min_input_id", message, "lower it")])
    return low, high
