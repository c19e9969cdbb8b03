"""Which rows of its files a data set takes: slices of splits, and one of several equal parts after a shuffle."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

from axo.data.content import DataFile
from axo.data.readers import count_rows, read_file
from axo.data.rows import Row
from axo.errors import DataError
from axo.recipe.split import SplitPart

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Piece:
    """The files of a split with their kinds, and what is taken of their rows."""

    part: SplitPart
    files: Sequence[tuple[DataFile, str]]

    @cached_property
    def num_rows(self) -> int:
        """Of the whole split, counted once."""
        return sum(count_rows(file, kind) for file, kind in self.files)

    @cached_property
    def rows(self) -> range:
        """What is taken. DataError where the slice cannot be had of so few rows."""
        try:
            return self.part.rows(self.num_rows)
        except ValueError as error:
            file = str(self.files[0][0])
            raise DataError(f"split {self.part.name!r}: {error}", "write a slice in whole rows", file=file) from None


def read_pieces(pieces: Sequence[Piece], *, skip: int = 0) -> Iterator[Row]:
    """Rows of all pieces, one after the other, but for the first `skip` of them.

    DataError: a file is not of its kind; a file that is taken whole has no row.
    """
    for piece in pieces:
        if skip == 0 and not piece.part.sliced:
            yield from _whole(piece)
            continue
        # How many rows there are is only found out where something depends on it.
        counted = piece.part.needs_count or (skip > 0 and len(pieces) > 1)
        rows = piece.rows if counted else piece.part.rows(sys.maxsize)
        skip, rows = max(skip - len(rows), 0), rows[skip:]
        yield from _chosen(piece, chain(repeat(0, rows.start), repeat(1, len(rows))), len(rows))


def read_shard(pieces: Sequence[Piece], *, shards: int, index: int, seed: int, skip: int = 0) -> Iterator[Row]:
    """The rows of one part in its shuffled order; they are held in memory, the others are not."""
    import numpy as np

    order = shard_rows(sum(len(piece.rows) for piece in pieces), shards=shards, index=index, seed=seed)[skip:]
    wanted = np.zeros(sum(len(piece.rows) for piece in pieces), dtype=np.uint8)
    wanted[order] = 1
    found: list[Row] = []
    first = 0
    for piece in pieces:
        flags = wanted[first : first + len(piece.rows)].tobytes()
        first += len(piece.rows)
        found += _chosen(piece, chain(repeat(0, piece.rows.start), flags), sum(flags))
    # `found` is in the order of the files: row k of it is the one of the k-th smallest number.
    for place in np.argsort(np.argsort(order)):
        yield found[place]


def shard_rows(num_rows: int, *, shards: int, index: int, seed: int) -> np.ndarray:
    """Numbers of the rows that `Dataset.shuffle(seed=seed).shard(shards, index)` of `datasets` gives, in its order."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(num_rows)
    size, over = divmod(num_rows, shards)
    start = size * index + min(index, over)
    return order[start : start + size + (index < over)]


def _whole(piece: Piece) -> Iterator[Row]:
    for file, kind in piece.files:
        row = None
        for row in read_file(file, kind):
            yield row
        if row is None:
            with file.open("rb") as content:
                empty = not content.read(1)
            message = "the file is empty" if empty else "the file has no rows"
            raise DataError(message, "write rows into it, or take it out of the data set", file=str(file))


def _chosen(piece: Piece, flags: Iterator[int], num_wanted: int) -> Iterator[Row]:
    """One iterator of flags serves all files: a reader takes from it one for each row that it has."""
    rows = chain.from_iterable(read_file(file, kind, flags) for file, kind in piece.files)
    return islice(rows, num_wanted)
