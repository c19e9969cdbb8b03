"""The data sets of a recipe with their counts: of the prepared data, or counted again where that was refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import xxhash

from axo.data.build import SetWork
from axo.data.dedup import RowFilter
from axo.data.preparation import Preparation, make_preparation
from axo.data.prepare import Prepared
from axo.data.report import SetReport
from axo.data.rows import Row
from axo.data.source import expanded
from axo.data.store import Store, open_store
from axo.errors import DataError
from axo.recipe.data import DataSection, DatasetEntry
from axo.recipe.recipe import Recipe
from axo.workflows.counts import evaluation_data

BothPrepared = tuple[Prepared | None, Prepared | None]
"""Training data, which is not prepared where it is streamed, and test_datasets."""
STREAMED_ROWS = 1000
"""Rows of a streamed data set that are looked at."""


@dataclass(frozen=True)
class DataSet:
    key: str
    """`datasets.0`; a data set with a list of names is several of one key."""
    number: int
    """In the store."""
    preparation: Preparation
    data: DataSection
    streamed: bool = False
    """It is read while training goes on: only its first rows are looked at."""
    dropped_rows: frozenset[int] = field(default_factory=frozenset[int])
    """Rows, counted from 1, that are left out because an equal one came before."""

    def rows(self, *, skip: int = 0) -> Iterator[Row]:
        """What is looked at of its rows, but for the first `skip`."""
        if not self.streamed:
            return self.preparation.rows(skip=skip)
        begin = self.preparation.entry.skip or 0
        return islice(self.preparation.rows(skip=begin + skip), max(0, STREAMED_ROWS - skip))

    def is_meant(self, wanted: str | None) -> bool:
        """Whether `wanted` is its key, its number in `datasets`, its path or its name in reports; None means all."""
        words = {self.key, self.key.removeprefix("datasets."), self.preparation.entry.path, self.preparation.name}
        return wanted is None or wanted in words


@dataclass(frozen=True)
class SetCounts:
    report: SetReport
    lengths: np.ndarray
    """Tokens of each kept sample."""
    duplicates: int
    """Kept samples with the very tokens of an earlier one of the data set."""
    wrong_rows: int = 0
    """Rows that are not in the report because they are refused."""


def find_sets(recipe: Recipe, *, tokenizer: Any) -> list[DataSet]:
    """All data sets, those of test_datasets last."""
    seen = RowFilter() if recipe.data.dataset_exact_deduplication else None
    found: list[DataSet] = []
    for name, entries, data in _sections(recipe):
        streamed = bool(recipe.data.streamed) and name != "test_datasets"
        for number, (at, entry) in enumerate(
            (at, one) for at, all_of in enumerate(entries) for one in expanded(all_of)
        ):
            preparation = make_preparation(
                entry,
                data=data,
                section=recipe.tokenizer,
                tokenizer=tokenizer,
                objective=recipe.preferences.objective,
                seed=recipe.run.seed,
                streamed_text=name == "pretraining_dataset",
            )
            dropped = frozenset[int]() if seen is None or streamed else _repeated(preparation, seen)
            found.append(DataSet(f"{name}.{at}", number, preparation, data, streamed, dropped))
    return found


def counts_of(one: DataSet, prepared: BothPrepared | None, *, tokenizer: Any) -> SetCounts:
    """What was counted when the data was prepared, or is counted now where it was not."""
    own = None if prepared is None else prepared[one.key.startswith("test_datasets")]
    if own is None or one.streamed:
        return _counted(one, tokenizer)
    store = open_store(own.path)
    members = np.flatnonzero(store.sets == one.number)
    return SetCounts(own.reports[one.number], store.lengths[members], _duplicates(store, members))


def _sections(recipe: Recipe) -> Iterator[tuple[str, Sequence[DatasetEntry], DataSection]]:
    data = recipe.data
    yield "pretraining_dataset" if data.pretraining_dataset else "datasets", data.streamed or data.datasets, data
    yield "test_datasets", data.test_datasets or (), evaluation_data(recipe)


def _counted(one: DataSet, tokenizer: Any) -> SetCounts:
    """Rows that are wrong are left out."""
    seen = RowFilter() if one.data.dataset_exact_deduplication else None
    work = SetWork(one.preparation, data=one.data, tokenizer=tokenizer, rows=seen, tolerant=True)
    hashes: list[int] = []
    lengths: list[int] = []
    faults: list[DataError] = []
    for batch in work.samples(one.rows(), tell=faults.append):
        lengths += batch.lengths.tolist()
        hashes += [xxhash.xxh3_64_intdigest(sample.ids.tobytes()) for sample in batch.samples()]
    repeats = len(hashes) - len(set(hashes))
    return SetCounts(work.counts(), np.array(lengths, dtype=np.int64), repeats, len(faults))


def _repeated(preparation: Preparation, seen: RowFilter) -> frozenset[int]:
    return frozenset(number for number, row in enumerate(preparation.rows(), 1) if not seen.is_new(row))


def _duplicates(store: Store, members: Sequence[int] | np.ndarray) -> int:
    known = {xxhash.xxh3_64_intdigest(store[int(sample)][0].tobytes()) for sample in members}
    return len(members) - len(known)
