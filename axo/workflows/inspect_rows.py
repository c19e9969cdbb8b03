"""Which rows of a data set are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from axo.data.look import Looker, Seen
from axo.data.rows import Row
from axo.errors import DataError
from axo.workflows.inspect_sets import DataSet


@dataclass(frozen=True)
class Choice:
    rows: int = 3
    """So many of each data set: the first ones."""
    drawn: bool = False
    """Half of them are drawn from all other rows instead."""
    shared: bool = False
    """`rows` are those of all data sets together."""
    numbers: tuple[int, ...] = ()
    """These, counted from 1, instead."""
    search: str | None = None
    """Only rows whose text contains this, in whatever case."""
    dataset: str | None = None
    """Path, key or number of the data set; None: all."""

    def shared_by(self, num_sets: int) -> Choice:
        """What is chosen of each of so many data sets."""
        return replace(self, rows=max(1, self.rows // num_sets)) if self.shared else self


def chosen_rows(looker: Looker, one: DataSet, choice: Choice, *, total: int, tolerant: bool) -> tuple[list[Seen], str]:
    """The rows, and in words which they are; `total` is how many there are. `tolerant` leaves out rows that are wrong.

    DataError where a row is asked for that is not there.
    """
    if choice.search is not None:
        return _matching(looker, one, choice, tolerant=tolerant)
    numbers, words = _numbers(choice, total, one)
    found: list[Seen] = []
    for number, row in _read(one, numbers):
        try:
            found.append(looker.look(number, row))
        except DataError:
            if not tolerant:
                raise
    left_out = len(numbers) - len(found)
    return found, f"{words}, without {left_out:,} that are wrong" if left_out else words


def _numbers(choice: Choice, total: int, one: DataSet) -> tuple[list[int], str]:
    if choice.numbers:
        beyond = [number for number in choice.numbers if number > total]
        if beyond:
            raise DataError(f"there is no row {beyond[0]:,}", f"it has rows 1 to {total:,}", file=one.preparation.name)
        return sorted(set(choice.numbers)), "the rows that were asked for"
    if total <= choice.rows:
        return list(range(1, total + 1)), f"all {total:,} rows"
    if not choice.drawn or choice.rows == 1:
        return list(range(1, choice.rows + 1)), f"the first {choice.rows:,} of {total:,} rows"
    rest, seed = choice.rows // 2, one.preparation.setting.seed
    half = choice.rows - rest
    drawn = np.random.default_rng(seed).choice(total - half, rest, replace=False) + half + 1
    words = f"rows 1 to {half:,} and {rest:,} drawn from the other {total - half:,} with seed {seed}"
    return [*range(1, half + 1), *sorted(drawn.tolist())], words


def _read(one: DataSet, numbers: Sequence[int]) -> Iterator[tuple[int, Row]]:
    """(number, row) of these rows, given in rising order."""
    if not numbers:
        return
    wanted = set(numbers)
    for number, row in enumerate(one.rows(skip=numbers[0] - 1), numbers[0]):
        if number in wanted:
            yield number, row
        if number == numbers[-1]:
            return


def _matching(looker: Looker, one: DataSet, choice: Choice, *, tolerant: bool) -> tuple[list[Seen], str]:
    assert choice.search is not None
    wanted = choice.search.casefold()
    found: list[Seen] = []
    looked_at = 0
    for number, row in enumerate(one.rows(), 1):
        if len(found) == choice.rows:
            break
        looked_at = number
        try:
            if (not choice.numbers or number in choice.numbers) and wanted in looker.text(row).casefold():
                found.append(looker.look(number, row))
        except DataError:
            if not tolerant:
                raise
    return found, f"{len(found):,} rows with {choice.search!r}, of the first {looked_at:,} rows"
