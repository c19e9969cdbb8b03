"""Data that is read while training goes on: a buffer of rows at a time becomes samples, packs and steps, and the small
position of a step is enough to go on there.

Rows come from the data sets one after the other, again and again. What a buffer holds and the order of its packs depend
on the recipe and its position alone, so every rank makes the same steps by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from axo.data.build import SetWork
from axo.data.cache import content_key, tokenizer_fingerprint
from axo.data.draws import STREAMED, stream
from axo.data.held import HeldSamples, concatenated
from axo.data.lost import reasons, refuse_losses
from axo.data.order import make_order
from axo.data.preparation import Preparation, make_preparation
from axo.data.prepare import set_parts
from axo.data.recall import as_json
from axo.data.refuse import refuse_set
from axo.data.report import names_of
from axo.data.rows import Row
from axo.data.source import expanded
from axo.data.tokenize import Sample
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.batch import BatchSection
    from axo.recipe.data import DataSection
    from axo.recipe.tokenizer import TokenizerSection

PROBED_ROWS = 100
"""Rows of each data set that are read before a model is loaded."""


@dataclass(frozen=True)
class Position:
    """Where a step of the stream begins: the buffer by the rows before it, and the steps of the buffer before it."""

    epoch: int = 0
    """Passes over all data sets before this one."""
    dataset: int = 0
    """Number of the data set that the buffer begins in."""
    row: int = 0
    """Rows of that data set before the buffer, in this epoch."""
    step: int = 0
    """Steps of the buffer before this one."""
    rows: int = 0
    """Rows of all data sets and epochs before the buffer."""


@dataclass(frozen=True)
class Buffer:
    """Rows that were read together, and the steps they make."""

    start: Position
    num_rows: int
    samples: HeldSamples
    steps: Sequence[Sequence[np.ndarray]]
    """The packs of each optimizer step, of all ranks; the last step may have fewer."""


@dataclass(frozen=True)
class Stream:
    """What the buffers of a recipe depend on."""

    preparations: tuple[Preparation, ...]
    data: DataSection
    tokenizer: Any
    packs_per_step: int
    seed: int
    capacity: int | None
    """Tokens of a pack; None: each sample is a pack of its own."""
    sequential: bool
    group_size: int | None
    concatenates: bool
    """The samples of a pack see each other."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the data sets are called in metrics."""
        return names_of([preparation.name for preparation in self.preparations])

    def buffers(
        self, start: Position, *, cancel: Event | None = None, tell: Callable[[str], None] | None = None
    ) -> Iterator[Buffer]:
        """Buffers from that of `start` on, without end until `cancel` is set; `tell` is told of tokens that are lost.

        DataError: a wrong row; data that is refused as preparing refuses it; more tokens lost than max_lost_tokens.
        """
        return _Reading(self, cancel=cancel, tell=tell).buffers(start)

    def probe(self) -> None:
        """Read the first rows of each data set. DataError where one is wrong."""
        for preparation in self.preparations:
            work = SetWork(preparation, data=self.data, tokenizer=self.tokenizer)
            for _ in work.samples(islice(preparation.rows(skip=preparation.entry.skip or 0), PROBED_ROWS)):
                pass
            if work.counts().trained_tokens:
                work.report()


def make_stream(
    *,
    data: DataSection,
    batch: BatchSection,
    tokenizer_section: TokenizerSection,
    tokenizer: Any,
    packs_per_step: int,
    seed: int,
) -> Stream:
    """The stream of a recipe. RecipeError as make_preparation says."""
    is_text = data.pretraining_dataset is not None
    packed = batch.sample_packing
    in_a_row = is_text and not packed and bool(data.pretraining_sample_concatenation)
    return Stream(
        preparations=tuple(
            make_preparation(
                one, data=data, section=tokenizer_section, tokenizer=tokenizer, seed=seed, streamed_text=is_text
            )
            for entry in data.streamed
            for one in expanded(entry)
        ),
        data=data,
        tokenizer=tokenizer,
        packs_per_step=packs_per_step,
        seed=seed,
        capacity=data.sequence_len if packed or in_a_row else None,
        sequential=batch.sample_packing_sequentially or in_a_row,
        group_size=batch.sample_packing_group_size,
        concatenates=in_a_row or (is_text and packed and data.pretrain_multipack_attn is False),
    )


class _Cancelled(Exception):
    """Nobody wants the rest."""


class _Reading:
    """Reads on from a position and counts what it reads."""

    def __init__(self, given: Stream, *, cancel: Event | None, tell: Callable[[str], None] | None) -> None:
        self._stream = given
        self._cancel = cancel or Event()
        self._tell = tell
        self._works = [SetWork(one, data=given.data, tokenizer=given.tokenizer) for one in given.preparations]
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
                for kept, _ in self._works[number].samples(iter(own)):
                    samples += kept
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
        refuse_set(report, given.preparations[number], data=given.data, tokenizer=given.tokenizer)
        refuse_losses([report], given.data)
        if self._tell is not None and report.tokens_lost >= max(1, 2 * self._told[number]):
            self._told[number] = report.tokens_lost
            self._tell(
                f"{report.path}: {report.share_lost:.2%} of the tokens of the {report.rows:,} rows read so far are "
                f"lost: {'; '.join(reasons(report, given.data))}"
            )


def stream_key(given: Stream) -> str:
    """What stands for everything that changes a token of the stream, but for its rows: they may be too many to be
    looked at, and may grow."""
    sets = [
        {
            **set_parts(one, tokenizer=given.tokenizer),
            "entry": one.entry.model_dump(mode="json", exclude_defaults=True),
            "is_text": one.setting.streamed_text,
        }
        for one in given.preparations
    ]
    return content_key(as_json({"tokenizer": tokenizer_fingerprint(given.tokenizer), "streamed": sets}))
