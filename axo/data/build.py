"""The work of preparing: rows of each data set are read, rendered, tokenised, measured and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from axo.data.dedup import RowFilter
from axo.data.keep import Count, pieces_kept, renders
from axo.data.preparation import Preparation
from axo.data.processes import Processes, num_processes
from axo.data.refuse import refuse_second_bos, refuse_set
from axo.data.report import SetReport
from axo.data.rows import Row
from axo.data.sample import Sample, SampleBatch, batch_of
from axo.data.store import StoreWriter
from axo.data.tokenize import Tokenizing
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
    """Write the samples of all data sets in their order, made by dataset_num_proc processes; one report for each. With
    `rows`, a row that was there before is left out.

    DataError: a wrong row, a set without any trained token, a chat set that never trains the end of a turn, a sample
    that begins with two BOS tokens, or one too long under excess_length_strategy `raise`.
    """
    reports: list[SetReport] = []
    tokenizing = Tokenizing(tokenizer)
    works = [SetWork(one, data=data, tokenizer=tokenizer, rows=rows, tokenizing=tokenizing) for one in preparations]

    def make(task: tuple[int, Batch]) -> Made:
        number, batch = task
        return works[number].make(batch)

    with Processes(make, count=num_processes(data.dataset_num_proc)) as processes:
        for number, (preparation, work) in enumerate(zip(preparations, works, strict=True)):
            before = (sum(report.rows for report in reports), sum(report.tokens_read for report in reports))
            tasks = ((number, batch) for batch in work.batches(preparation.rows()))
            for made in work.counted(processes.results(tasks), progress=progress and _after(progress, *before)):
                writer.append(made.samples, dataset=number, sides=made.sides)
            reports.append(work.report())
    return tuple(reports)


@dataclass(frozen=True)
class Batch:
    rows: Sequence[Row]
    repeated: frozenset[int] = frozenset()
    """Places in `rows` of those that were there before."""


@dataclass(frozen=True)
class Made:
    """What became of a batch."""

    samples: SampleBatch
    """Those that are kept."""
    sides: list[int]
    """Numbers of SIDES, one for each sample."""
    count: Count
    faults: list[DataError]
    """Of rows that are left out."""


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
        tolerant: bool = False,
    ) -> None:
        """`tokenizing` is shared by several data sets of one tokenizer: making one may take a second. A wrong row is an
        error; one that is `tolerant` leaves it out."""
        self._rows = rows
        self._tolerant = tolerant
        self._preparation = preparation
        self._data = data
        self._tokenizer = tokenizer
        self._renderer = make_renderer(preparation, tokenizer)
        self._tokenizing = tokenizing or Tokenizing(tokenizer)
        self._count = Count()

    def samples(
        self, rows: Iterator[Row], *, progress: Progress | None = None, tell: Tell | None = None
    ) -> Iterator[SampleBatch]:
        """The samples that are kept, batch by batch, made in this process.

        DataError where a row is wrong; in tolerant work that is told, and the row left out.
        """
        made = map(self.make, self.batches(rows))
        for one in self.counted(made, progress=progress, tell=tell):
            yield one.samples

    def batches(self, rows: Iterator[Row]) -> Iterator[Batch]:
        """The rows in batches, with those marked that were there before."""
        while own := list(islice(rows, _BATCH_ROWS)):
            seen = self._rows
            yield Batch(own, frozenset(at for at, row in enumerate(own) if seen is not None and not seen.is_new(row)))

    def make(self, batch: Batch) -> Made:
        """What becomes of a batch, which depends on nothing else; any process may do it. DataError as `samples`."""
        count, faults = Count(), list[DataError]()
        before = renders(self._renderer)
        units = [self._unit(row, faults) for row in batch.rows]
        tokenized = self._tokenizing.tokenize([item for one in units if one is not None for item in one.items])
        samples = iter(tokenized.samples)
        kept: list[Sample] = []
        sides: list[int] = []
        for at, one in enumerate(units):
            if one is None:
                continue
            own = list(islice(samples, len(one.items)))
            for group in self._kept(one, own, count, faults, is_repeated=at in batch.repeated):
                kept += group
                sides += one.sides
        count.turns.add(kept)
        count.add_renders(renders(self._renderer), before=before)
        return Made(batch_of(kept), sides, count, faults)

    def counted(
        self, made: Iterator[Made], *, progress: Progress | None = None, tell: Tell | None = None
    ) -> Iterator[Made]:
        """The same, each counted on its way."""
        for one in made:
            self._count.merge(one.count)
            if tell is not None:
                for fault in one.faults:
                    tell(fault)
            yield one
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

    def _unit(self, row: Row, faults: list[DataError]) -> Unit | None:
        try:
            return unit(self._preparation.format, self._renderer, row)
        except DataError as error:
            self._leave_out(error, faults)
            return None

    def _kept(
        self, one: Unit, samples: Sequence[Sample], count: Count, faults: list[DataError], *, is_repeated: bool
    ) -> list[Sequence[Sample]]:
        """What is kept of a row's samples, all of it counted."""
        try:
            refuse_second_bos(samples, one.row, self._tokenizer)
            kept = [] if is_repeated else list(pieces_kept(samples, one, self._data, count))
        except DataError as error:
            self._leave_out(error, faults)
            return []
        count.rows += 1
        if is_repeated:
            count.drop_duplicate(samples)
        else:
            count.equal_answers += len(one.items) == 2 and one.items[0] == one.items[1]
        return kept

    def _leave_out(self, error: DataError, faults: list[DataError]) -> None:
        if not self._tolerant:
            raise error
        faults.append(error)


def _after(progress: Progress, rows: int, tokens: int) -> Progress:
    return lambda more_rows, more_tokens: progress(rows + more_rows, tokens + more_tokens)
