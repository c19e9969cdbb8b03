"""The work of preparing: rows of each data set are read, rendered, tokenised, measured and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from axo.data.dedup import RowFilter
from axo.data.keep import Count, pieces_kept
from axo.data.preparation import Preparation
from axo.data.refuse import refuse_second_bos, refuse_set
from axo.data.report import SetReport
from axo.data.rows import Row
from axo.data.store import StoreWriter
from axo.data.tokenize import Sample, Tokenizing
from axo.data.unit import Unit, make_renderer, unit
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DataSection

Progress = Callable[[int, int], None]
"""Called with rows and tokens read so far in all data sets."""
Tell = Callable[[DataError], None]
"""Called with the fault of a row, which is then left out."""

_BATCH_ROWS = 1000


def build(
    preparations: Sequence[Preparation],
    writer: StoreWriter,
    *,
    data: DataSection,
    tokenizer: Any,
    progress: Progress | None,
    rows: RowFilter | None = None,
) -> tuple[SetReport, ...]:
    """Write the samples of all data sets in their order; one report for each. With `rows`, a row that was there before
    is left out.

    DataError: a wrong row, a set without any trained token, a chat set that never trains the end of a turn, a sample
    that begins with two BOS tokens, or one too long under excess_length_strategy `raise`.
    """
    reports: list[SetReport] = []
    tokenizing = Tokenizing(tokenizer)
    for number, preparation in enumerate(preparations):
        before = (sum(report.rows for report in reports), sum(report.tokens_read for report in reports))
        told = None if progress is None else _after(progress, *before)
        work = SetWork(preparation, data=data, tokenizer=tokenizer, rows=rows, tokenizing=tokenizing)
        for samples, sides in work.samples(preparation.rows(), progress=told):
            writer.append(samples, dataset=number, sides=sides)
        reports.append(work.report())
    return tuple(reports)


class SetWork:
    """Turns the rows of one data set into samples and counts them."""

    def __init__(
        self,
        preparation: Preparation,
        *,
        data: DataSection,
        tokenizer: Any,
        rows: RowFilter | None = None,
        tokenizing: Tokenizing | None = None,
    ) -> None:
        """`tokenizing` is shared by several data sets of one tokenizer: making one may take a second."""
        self._rows = rows
        self._preparation = preparation
        self._data = data
        self._tokenizer = tokenizer
        self._renderer = make_renderer(preparation, tokenizer)
        self._tokenizing = tokenizing or Tokenizing(tokenizer)
        self._count = Count()

    def samples(
        self, rows: Iterator[Row], *, progress: Progress | None = None, tell: Tell | None = None
    ) -> Iterator[tuple[list[Sample], list[int]]]:
        """Batches of samples that are kept, and numbers of SIDES, one for each.

        DataError where a row is wrong; with `tell`, that is told and the row left out.
        """
        for batch in _batches(rows, _BATCH_ROWS):
            units = [one for row in batch if (one := self._unit(row, tell)) is not None]
            yield self._keep(units, tell)
            if progress is not None:
                progress(self._count.rows, self._count.tokens_read)

    def counts(self) -> SetReport:
        """What was counted so far."""
        return self._count.report(self._preparation.name, self._renderer)

    def report(self) -> SetReport:
        """What was counted. DataError where the data set as a whole teaches nothing, or never to stop."""
        report = self.counts()
        refuse_set(report, self._preparation, data=self._data, tokenizer=self._tokenizer)
        return report

    def _unit(self, row: Row, tell: Tell | None) -> Unit | None:
        try:
            return unit(self._preparation.format, self._renderer, row)
        except DataError as error:
            if tell is None:
                raise
            tell(error)
            return None

    def _keep(self, units: Sequence[Unit], tell: Tell | None) -> tuple[list[Sample], list[int]]:
        """The samples of a batch of rows, tokenised together, that are kept."""
        count = self._count
        tokenized = self._tokenizing.tokenize([item for one in units for item in one.items])
        samples = iter(tokenized.samples)
        kept: list[Sample] = []
        sides: list[int] = []
        for one in units:
            own = list(islice(samples, len(one.items)))
            try:
                refuse_second_bos(own, one.row, self._tokenizer)
                if self._rows is not None and not self._rows.is_new(one.row):
                    count.rows += 1
                    count.drop_duplicate(own)
                    continue
                for pieces in pieces_kept(own, one, self._data, count):
                    kept += pieces
                    sides += one.sides
            except DataError as error:
                if tell is None:
                    raise
                tell(error)
                continue
            count.rows += 1
            count.equal_answers += len(one.items) == 2 and one.items[0] == one.items[1]
        return kept, sides


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(islice(rows, size)):
        yield batch


def _after(progress: Progress, rows: int, tokens: int) -> Progress:
    return lambda more_rows, more_tokens: progress(rows + more_rows, tokens + more_tokens)
