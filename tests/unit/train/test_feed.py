"""Feeds: where each step of a stream stands, what a checkpoint of it goes on with, and when a stream has to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any

import numpy as np
import pytest

from axo.data.buffer import Buffer, Position
from axo.data.held import HeldSamples
from axo.data.order import Order
from axo.data.pack import single
from axo.errors import DataError
from axo.train.events import Progress, StepMetrics
from axo.train.feed import Fed, PreparedFeed, StreamFeed

STEPS = (3, 1, 2)
"""Steps of the buffers of an epoch; each has 10 rows."""


@dataclass
class Stub:
    """A stream of such buffers; the one that begins behind `wrong` rows cannot be read."""

    wrong: int = -1

    def buffers(
        self, start: Position, *, cancel: Event | None = None, tell: Callable[[str], None] | None = None
    ) -> Iterator[Buffer]:
        epoch, number = start.epoch, start.row // 10
        while True:
            rows = 30 * epoch + 10 * number
            if rows == self.wrong:
                raise DataError("wrong")
            packs = [[np.array([100 * epoch + 10 * number + step])] for step in range(STEPS[number])]
            yield Buffer(Position(epoch, 0, 10 * number, 0, rows), 10, HeldSamples([], [], num_sets=1), packs)
            epoch, number = (epoch, number + 1) if number < 2 else (epoch + 1, 0)


def fed(stub: Stub, progress: Progress, *, total_steps: int = 99) -> Iterator[tuple[int, Fed]]:
    """The pack of each step, which says where it is from, and the step."""
    feed = StreamFeed(stub, lambda samples: lambda packs: packs)  # type: ignore[arg-type, return-value]
    steps = feed.steps(progress, total_steps=total_steps)
    for one in steps:
        (pack,) = one.batches()
        yield int(pack[0]), one  # type: ignore[call-overload]


ORDER = [0, 1, 2, 10, 20, 21, 100, 101, 102, 110, 120, 121, 200]
"""100 x epoch + 10 x buffer + step."""


def test_the_steps_of_a_stream_say_where_the_next_one_is() -> None:
    found = list(islice(fed(Stub(), Progress()), 8))
    assert [place for place, _ in found] == ORDER[:8]
    assert [(one.stream.epoch, one.stream.row, one.stream.step) for _, one in found if one.stream is not None] == [
        (0, 0, 1), (0, 0, 2), (0, 10, 0), (0, 20, 0), (0, 20, 1), (1, 0, 0), (1, 0, 1), (1, 0, 2),
    ]  # fmt: skip
    assert [one.epoch_end for _, one in found] == [False] * 5 + [True] + [False] * 2
    assert [one.epoch for _, one in found] == [0] * 5 + [1] * 3
    assert [one.rows for _, one in found] == [3, 7, 10, 20, 25, 30, 33, 37]


def test_a_stream_goes_on_from_the_place_of_any_step() -> None:
    whole = list(islice(fed(Stub(), Progress()), 12))
    for number, (_, done) in enumerate(whole, 1):
        progress = Progress.from_json(Progress(step=number, stream=done.stream).to_json())
        again = list(islice(fed(Stub(), progress), 13 - number))
        assert [place for place, _ in again] == ORDER[number:]


def test_a_stream_that_cannot_be_read_on_stops_with_the_last_step_that_it_has() -> None:
    stub = Stub(wrong=20)
    steps = fed(stub, Progress())
    found = [next(steps) for _ in range(4)]
    assert [one.stopping for _, one in found] == [False, False, False, True]
    place = found[-1][1].stream
    assert place == Position(0, 0, 10, 1, 10), "behind the last step of the buffer that could be read"
    with pytest.raises(DataError, match="wrong"):
        next(fed(stub, Progress(step=4, stream=place)))
    assert next(fed(Stub(), Progress(step=4, stream=place)))[0] == 20


def test_nothing_is_waited_for_behind_the_last_step_of_a_run() -> None:
    found = list(islice(fed(Stub(wrong=10), Progress(), total_steps=3), 3))
    assert not any(one.stopping for _, one in found)


def test_a_first_buffer_that_cannot_be_read_is_an_error_at_once() -> None:
    with pytest.raises(DataError, match="wrong"):
        next(fed(Stub(wrong=0), Progress()))


def test_prepared_data_is_fed_epoch_after_epoch_from_any_step() -> None:
    order = Order(lambda epoch: single(np.arange((5, 2)[epoch % 2])), packs_per_step=2, seed=0, shuffle=False)
    seen: list[Any] = []
    feed = PreparedFeed(order, lambda packs: seen.append([int(pack[0]) for pack in packs]) or [])
    found = list(islice(feed.steps(Progress(step=1, step_in_epoch=1), total_steps=9), 4))
    for one in found:
        one.batches()
    assert seen == [[2, 3], [4], [0, 1], [0, 1]]
    assert [one.epoch for one in found] == pytest.approx([2 / 3, 1, 2, 2 + 1 / 3])
    assert [one.epoch_end for one in found] == [False, True, True, False]
    assert all(one.stream is None and one.rows is None for one in found)


def test_rows_stand_in_the_metrics_of_a_stream_alone() -> None:
    given: dict[str, Any] = {
        "step": 1, "epoch": 0.5, "loss": 1.0, "lr": 1.0, "grad_norm": 1.0, "trained_tokens": 1,
        "tokens_per_second": 1.0, "peak_memory_bytes": 1,
    }  # fmt: skip
    assert "rows" not in StepMetrics(**given).values()
    assert StepMetrics(**given, rows=7).values()["rows"] == 7
