"""Where the steps of a run come from: prepared data in the order of its epochs, or a stream that is read on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Protocol

import numpy as np

from axo.data.ahead import ReadAhead
from axo.data.buffer import Buffer, Position
from axo.data.collate import Samples
from axo.data.order import Order
from axo.data.stream import Stream
from axo.train.events import Progress
from axo.types import Batch

Packs = list[np.ndarray]


@dataclass(frozen=True)
class Fed:
    """What a step is made of, and where the run stands when it is done."""

    batches: Callable[[], list[Batch]]
    """Makes this rank's micro-batches; equally many on every rank."""
    epoch: float
    """Passes over the data; of a stream only whole ones are known."""
    epoch_end: bool
    stream: Position | None = None
    """Where the next step of a stream begins."""
    rows: int | None = None
    """Rows of a stream so far; within a buffer in proportion to its steps."""
    stopping: bool = False
    """The data cannot be read on: save and end."""


class Feed(Protocol):
    """Gives the steps of a run."""

    @property
    def fault(self) -> Exception | None:
        """Why the data could not be read on, once that was found."""
        ...

    def steps(self, progress: Progress, *, total_steps: int) -> Generator[Fed]:
        """The steps from `progress` on, without end."""
        ...


@dataclass(frozen=True)
class PreparedFeed:
    """Epoch after epoch of prepared data."""

    order: Order
    collate: Callable[[Packs], list[Batch]]
    """The packs of a step -> this rank's micro-batches."""
    fault: Exception | None = None

    def steps(self, progress: Progress, *, total_steps: int) -> Generator[Fed]:
        del total_steps
        epoch, start = progress.epoch, progress.step_in_epoch
        while True:
            count = self.order.steps_in(epoch)
            for number, packs in enumerate(self.order.steps(epoch, start=start), start + 1):
                yield Fed(partial(self.collate, packs), epoch + number / count, epoch_end=number == count)
            epoch, start = epoch + 1, 0


class StreamFeed:
    """Buffer after buffer of a stream, the next one read while one is trained."""

    def __init__(
        self,
        stream: Stream,
        collate_of: Callable[[Samples], Callable[[Packs], list[Batch]]],
        *,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`collate_of` makes PreparedFeed.collate for the samples of a buffer; `tell` is told of tokens that are
        lost."""
        self._stream = stream
        self._collate_of = collate_of
        self._tell = tell
        self._fault: Exception | None = None

    @property
    def fault(self) -> Exception | None:
        """Why the data could not be read on, once that was found."""
        return self._fault

    def steps(self, progress: Progress, *, total_steps: int) -> Generator[Fed]:
        """Raises what reading raises where not one more step can be made; where it can, that step is `stopping`."""
        cancel = Event()
        position = progress.stream or Position()
        ahead = ReadAhead(self._stream.buffers(position, cancel=cancel, tell=self._tell), cancel=cancel)
        step, buffer = progress.step, None
        try:
            buffer, start = ahead.take(), position.step
            while True:
                collate = self._collate_of(buffer.samples)
                following: Buffer | None = None
                for number in range(start + 1, len(buffer.steps) + 1):
                    step += 1
                    # The buffer after this one says where the next step begins, and whether this is an epoch's end.
                    if number == len(buffer.steps) and step < total_steps:
                        following = self._taken(ahead)
                    yield self._fed(buffer, number, following, partial(collate, list(buffer.steps[number - 1])))
                if self._fault is not None:
                    raise self._fault
                buffer, start = following or ahead.take(), 0
        finally:
            ahead.close()

    def _taken(self, ahead: ReadAhead[Buffer]) -> Buffer | None:
        try:
            return ahead.take()
        except Exception as error:  # whatever it is: what was trained is saved before it is raised
            self._fault = error
            return None

    def _fed(self, buffer: Buffer, number: int, following: Buffer | None, batches: Callable[[], list[Batch]]) -> Fed:
        epoch = buffer.start.epoch if following is None else following.start.epoch
        return Fed(
            batches,
            epoch=epoch,
            epoch_end=epoch > buffer.start.epoch,
            stream=replace(buffer.start, step=number) if following is None else following.start,
            rows=buffer.start.rows + round(buffer.num_rows * number / len(buffer.steps)),
            stopping=self._fault is not None,
        )
