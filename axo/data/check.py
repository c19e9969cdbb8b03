"""Reads a data set to its end as preparing does, past every fault, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from axo.data.build import Progress, SetWork
from axo.data.dedup import RowFilter
from axo.data.preparation import Preparation
from axo.data.processes import Processes, num_processes
from axo.data.report import SetReport
from axo.data.rows import Row
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DataSection

LISTED = 20
"""Faults that are kept; the others are counted."""


@dataclass
class Faults:
    """What is wrong with the data of a recipe."""

    listed: list[DataError] = field(default_factory=list[DataError])
    further: int = 0
    unread: list[str] = field(default_factory=list[str])
    """Places behind which rows could not be read."""

    def add(self, error: DataError) -> None:
        if len(self.listed) < LISTED:
            self.listed.append(error)
        else:
            self.further += 1

    def in_order(self) -> list[DataError]:
        """Those that are kept, file by file in the order of their lines."""
        files = list(dict.fromkeys(error.file for error in self.listed))
        return sorted(self.listed, key=lambda error: (files.index(error.file), error.line or 0))

    @property
    def count(self) -> int:
        return len(self.listed) + self.further


def check_set(
    preparation: Preparation,
    *,
    data: DataSection,
    tokenizer: Any,
    faults: Faults,
    progress: Progress | None = None,
    rows: RowFilter | None = None,
) -> SetReport:
    """What the rows without a fault become; every fault is added to `faults`. With `rows`, a row that was there before
    is left out."""
    work = SetWork(preparation, data=data, tokenizer=tokenizer, rows=rows, tolerant=True)
    before = faults.count
    try:
        with Processes(work.make, count=num_processes(data.dataset_num_proc)) as processes:
            made = processes.results(work.batches(_rows_past_faults(preparation, faults)))
            for _ in work.counted(made, progress=progress, tell=faults.add):
                pass
        # Of rows that have faults nobody can say what they would have trained.
        return work.counts() if faults.count > before else work.report()
    except DataError as error:
        faults.add(error)
        return work.counts()


def _rows_past_faults(preparation: Preparation, faults: Faults) -> Iterator[Row]:
    """The rows that can be read. After one that cannot, reading begins anew behind it; where the same fault comes
    again, it is one of the whole file, and the rest stays unread."""
    read = 0
    former: tuple[Any, ...] | None = None
    for _ in range(LISTED):
        try:
            for row in preparation.rows(skip=read):
                read += 1
                yield row
            return
        except DataError as error:
            place = (error.file, error.line, error.column, error.field)
            if place != former:
                faults.add(error)
            if place == former or error.line is None:
                former = place
                break
            former, read = place, read + 1
    if former is not None and former[1] is not None:
        faults.unread.append(f"{former[0]}:{former[1]}")
