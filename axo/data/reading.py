"""The reading of a stream: rows become samples, packs and steps, and what is lost on the way is counted and said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from axo.data.buffer import Buffer, Position
from axo.data.build import SetWork
from axo.data.draws import STREAMED, stream
from axo.data.held import HeldSamples, concatenated
from axo.data.lost import reasons, refuse_losses
from axo.data.order import make_order
from axo.data.refuse import refuse_set
from axo.data.rows import Row
from axo.data.sample import Sample
from axo.data.tokenize import Tokenizing
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.data.stream import Stream


class _Cancelled(Exception):
    """Nobody wants the rest."""


class Reading:
    """Reads on from a position and counts what it reads."""

    def __init__(self, given: Stream, *, cancel: Event | None, tell: Callable[[str], None] | None) -> None:
        self._stream = given
        self._cancel = cancel or Event()
        self._tell = tell
        tokenizing = Tokenizing(given.tokenizer)
        self._works = [
            SetWork(one, data=given.data, tokenizer=given.tokenizer, tokenizing=tokenizing)
            for one in given.preparations
        ]
        self._whole: set[int] = set()
        """Data sets that are counted from their first row on."""
        self._told = [0] * len(self._works)
        """Lost tokens of each data set when they were told of last."""

    def buffers(self, start: Position) -> Iterator[Buffer]:
        at = replace(start, step=0)
        try:
            while True:
                num_steps = 0
                rows = self._rows(at)
                from_start = (at.dataset, at.row) == (0, 0)
                ends = False
                while not ends:
                    buffer, after, ends = self._buffer(rows, at)
                    if buffer.steps:
                        yield buffer
                    num_steps, at = num_steps + len(buffer.steps), after
                if from_start and not num_steps:
                    hint = "look at the rows with `axo inspect`"
                    raise DataError("no sample is left to train: every row was dropped", hint)
                at = Position(epoch=at.epoch + 1, rows=at.rows)
        except _Cancelled:
            return

    def _rows(self, at: Position) -> Iterator[tuple[int, Row]]:
        """The rows of the epoch, each with the number of its data set."""
        for number, preparation in enumerate(self._stream.preparations):
            if number < at.dataset:
                continue
            before = at.row if number == at.dataset else 0
            if before == 0:
                self._whole.add(number)
            skip = preparation.entry.skip or 0
            row = None
            for row in preparation.rows(skip=skip + before):
                if self._cancel.is_set():
                    raise _Cancelled
                yield number, row
            if row is None and skip and not before:
                raise DataError(f"skip: {skip} passes over every row", "lower skip", file=preparation.name)

    def _buffer(self, rows: Iterator[tuple[int, Row]], at: Position) -> tuple[Buffer, Position, bool]:
        """The next buffer, the position behind it, and whether the epoch ends there. Rows are read on until they fill a
        step."""
        size = self._stream.data.streaming_multipack_buffer_size
        samples: list[Sample] = []
        sets: list[int] = []
        after = at
        while True:
            chunk = list(islice(rows, size))
            ends = len(chunk) < size
            groups = [(number, [row for _, row in group]) for number, group in groupby(chunk, key=lambda one: one[0])]
            for place, (number, own) in enumerate(groups, 1):
                for kept in self._works[number].samples(iter(own)):
                    samples += kept.samples()
                    sets += [number] * len(kept)
                after = replace(
                    after,
                    dataset=number,
                    row=len(own) + (after.row if number == after.dataset else 0),
                    rows=after.rows + len(own),
                )
                self._check(number, is_whole=number in self._whole and (ends or place < len(groups)))
            if ends or self._fill_a_step(samples):
                return self._made(samples, sets, at, num_rows=after.rows - at.rows), after, ends

    def _fill_a_step(self, samples: Sequence[Sample]) -> bool:
        packs, capacity = self._stream.packs_per_step, self._stream.capacity
        if capacity is None:
            return len(samples) >= packs
        return sum(len(sample.ids) for sample in samples) >= packs * capacity

    def _made(self, samples: Sequence[Sample], sets: Sequence[int], at: Position, *, num_rows: int) -> Buffer:
        given = self._stream
        held = HeldSamples(samples, sets, num_sets=len(given.preparations))
        order = make_order(
            held.lengths,
            samples=np.arange(len(held)),
            capacity=given.capacity,
            packs_per_step=given.packs_per_step,
            seed=int(stream(given.seed, STREAMED, at.epoch, at.dataset, at.row).randint(2**31)),
            shuffle=given.data.shuffle_merged_datasets,
            sequential=given.sequential,
            group_size=given.group_size,
        )
        steps = list(order.steps(0))
        if given.concatenates:
            held, steps = concatenated(held, steps)
        return Buffer(at, num_rows, held, steps)

    def _check(self, number: int, *, is_whole: bool) -> None:
        """Refuse a data set as preparing does, by what was read of it so far: all of it, or as much as a buffer, for
        nothing follows from a few rows."""
        given, report = self._stream, self._works[number].counts()
        if not is_whole and report.rows < given.data.streaming_multipack_buffer_size:
            return
        so_far = replace(report, path=f"{report.path} ({report.rows:,} rows read so far)")
        refuse_set(so_far, given.preparations[number], data=given.data, tokenizer=given.tokenizer)
        refuse_losses([so_far], given.data)
        if self._tell is not None and report.tokens_lost >= max(1, 2 * self._told[number]):
            self._told[number] = report.tokens_lost
            self._tell(
                f"{report.path}: {report.share_lost:.2%} of the tokens of the {report.rows:,} rows read so far are "
                f"lost: {'; '.join(reasons(report, given.data))}"
            )
