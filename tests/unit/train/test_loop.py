"""The loop with an engine that only writes down what it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from axo.data.order import Order
from axo.data.pack import single
from axo.errors import TrainingError
from axo.train.events import Progress, StepEnd
from axo.train.feed import Packs, PreparedFeed
from axo.train.loop import Loop
from axo.train.stop import StopFlag
from axo.types import Batch, Layout, Update


class Recording:
    """Rank 0 of two: the other rank brings `others` to the loop's gathers."""

    device = torch.device("cpu")

    def __init__(self, *, others: dict[int, list[float]] | None = None, loss: float = 6.0) -> None:
        self.layout = Layout(world_size=2, dp_size=2) if others else Layout()
        self.others = others or {}
        self.loss = loss
        self.divisors: list[float] = []
        self.updates: list[tuple[float, float]] = []
        self.batches: list[list[Batch]] = []

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        return [list(values), self.others[len(values)]] if self.others else [list(values)]

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        self.batches.append(list(micro_batches))
        self.divisors.append(divisor)
        return [self.loss]

    def update(self, *, lr: float, max_grad_norm: float) -> Update:
        self.updates.append((lr, max_grad_norm))
        return Update(grad_norm=0.25)


class Counting:
    def count(self, batch: Batch) -> float:
        return float((batch.targets != -100).sum())

    def num_trained(self, batch: Batch) -> int:
        return int((batch.targets != -100).sum())

    def loss_chunks(self, num_trained: int) -> int:
        return 100 + num_trained


class Recorder:
    def __init__(self, stop: StopFlag | None = None, *, after: int = 0) -> None:
        self.ends: list[StepEnd] = []
        self.positions: list[Progress] = []
        self._stop, self._after = stop, after

    def after_step(self, end: StepEnd) -> None:
        self.ends.append(end)
        self.positions.append(end.progress.at_boundary(epoch_end=end.epoch_end))
        if self._stop is not None and len(self.ends) == self._after:
            self._stop.requested = True

    def close(self) -> None:
        return


def batch_of(trained: int) -> Batch:
    """One row of 4 tokens of which `trained` are targets."""
    targets = torch.full((1, 4), -100)
    targets[0, :trained] = 1
    return Batch(torch.zeros_like(targets), targets, torch.arange(4)[None], torch.tensor([0, 4], dtype=torch.int32))


def fed_by(collate: Callable[[Packs], list[Batch]], *, packs: int = 5) -> PreparedFeed:
    """So many packs of one sample each, in their order, two a step."""
    return PreparedFeed(Order(lambda _: single(np.arange(packs)), packs_per_step=2, seed=0, shuffle=False), collate)


def make_loop(engine: Recording, *, total_steps: int, stop: StopFlag | None = None, packs: int = 5) -> Loop:
    """Two packs a step; a pack's number is how many tokens of its micro-batch are trained, from 1 to 3."""

    def collate(step: Packs) -> list[Batch]:
        return [batch_of(1 + int(pack[0]) % 3) for pack in step]

    return Loop(
        engine=engine,  # type: ignore[arg-type]
        objective=Counting(),
        feed=fed_by(collate, packs=packs),
        learning_rate=lambda step: 0.5 / (1 + step),
        total_steps=total_steps,
        max_grad_norm=3.0,
        stop=stop or StopFlag(),
    )


def test_steps_epochs_and_tokens_are_counted_from_the_first_to_the_last() -> None:
    engine, recorder, progress = Recording(), Recorder(), Progress()
    assert make_loop(engine, total_steps=5).train(progress, [recorder]) is True
    metrics = [end.metrics for end in recorder.ends]
    assert [one.step for one in metrics] == [1, 2, 3, 4, 5]
    assert [one.trained_tokens for one in metrics] == [1 + 2, 3 + 1, 2, 1 + 2, 3 + 1]
    assert [one.epoch for one in metrics] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
    assert [end.epoch_end for end in recorder.ends] == [False, False, True, False, False]
    assert [end.last for end in recorder.ends] == [False] * 4 + [True]
    assert progress.trained_tokens == 16
    assert [(at.epoch, at.step_in_epoch) for at in recorder.positions] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_step_divides_by_its_own_tokens_and_runs_at_its_own_rate() -> None:
    engine, recorder = Recording(loss=6.0), Recorder()
    make_loop(engine, total_steps=3).train(Progress(), [recorder])
    assert engine.divisors == [3, 4, 2]
    assert [end.metrics.loss for end in recorder.ends] == [2.0, 1.5, 3.0]
    assert engine.updates == [(0.5, 3.0), (0.25, 3.0), (0.5 / 3, 3.0)]
    assert [end.metrics.lr for end in recorder.ends] == [0.5, 0.25, 0.5 / 3]
    assert {end.metrics.grad_norm for end in recorder.ends} == {0.25}


def test_a_run_goes_on_inside_an_epoch_where_it_stopped() -> None:
    whole, rest = Recording(), Recording()
    make_loop(whole, total_steps=7).train(Progress(), [])
    recorder = Recorder()
    progress = Progress(step=4, epoch=1, step_in_epoch=1, trained_tokens=12)
    assert make_loop(rest, total_steps=7).train(progress, [recorder])
    assert rest.divisors == whole.divisors[4:]
    assert rest.updates == whole.updates[4:]
    assert [end.metrics.step for end in recorder.ends] == [5, 6, 7]
    assert progress.trained_tokens == 12 + sum(whole.divisors[4:])


def test_a_finished_run_takes_no_further_step() -> None:
    engine = Recording()
    assert make_loop(engine, total_steps=3).train(Progress(step=3, epoch=1), []) is True
    assert engine.divisors == []


def test_a_stop_ends_after_the_next_whole_step_and_says_so_to_the_hooks() -> None:
    stop = StopFlag()
    engine, recorder, progress = Recording(), Recorder(stop, after=1), Progress()
    assert make_loop(engine, total_steps=7, stop=stop).train(progress, [recorder]) is False
    assert [end.stopping for end in recorder.ends] == [False, True]
    assert progress.step == len(engine.updates) == 2


def test_a_stop_before_the_last_step_lets_the_run_finish() -> None:
    stop = StopFlag()
    recorder = Recorder(stop, after=2)
    assert make_loop(Recording(), total_steps=3, stop=stop).train(Progress(), [recorder]) is True
    assert recorder.ends[-1].last and recorder.ends[-1].stopping


def test_a_stop_asked_of_another_rank_stops_this_one() -> None:
    engine, recorder = Recording(others={4: [1.0, 1.0, 1.0, 1.0], 1: [0.0]}), Recorder()
    assert make_loop(engine, total_steps=3).train(Progress(), [recorder]) is False
    assert [end.stopping for end in recorder.ends] == [True]


def test_tokens_losses_and_chunks_are_those_of_all_ranks() -> None:
    engine, recorder = Recording(others={4: [7.0, 0.0, 5.0, 7.0], 1: [14.0]}, loss=6.0), Recorder()
    make_loop(engine, total_steps=1).train(Progress(), [recorder])
    assert engine.divisors == [3 + 7]
    assert recorder.ends[0].metrics.loss == (6.0 + 14.0) / (3 + 7)
    assert recorder.ends[0].metrics.trained_tokens == 10
    assert [batch.loss_chunks for batch in engine.batches[0]] == [105, 105], "as the fullest micro-batch of any rank"


def test_one_rank_leaves_the_chunks_to_each_batch() -> None:
    engine = Recording()
    make_loop(engine, total_steps=1).train(Progress(), [])
    assert [batch.loss_chunks for batch in engine.batches[0]] == [0, 0]


def test_a_rank_without_targets_still_takes_its_part_in_the_step() -> None:
    engine = Recording(others={4: [4.0, 0.0, 2.0, 4.0], 1: [8.0]}, loss=0.0)
    loop = make_loop(engine, total_steps=1)
    empty = Loop(**{**vars(loop), "feed": fed_by(lambda packs: [batch_of(0), batch_of(0)])})
    recorder = Recorder()
    assert empty.train(Progress(), [recorder])
    assert engine.divisors == [4.0] and len(engine.batches[0]) == 2
    assert recorder.ends[0].metrics.loss == 2.0


def test_a_step_without_any_target_is_an_error_and_never_a_division_by_zero() -> None:
    engine = Recording()
    loop = make_loop(engine, total_steps=1)
    empty = Loop(**{**vars(loop), "feed": fed_by(lambda packs: [batch_of(0)])})
    with pytest.raises(TrainingError, match="step 1 has no trained token"):
        empty.train(Progress(), [])
    assert engine.divisors == [] and engine.updates == []


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_before_the_update(loss: float) -> None:
    engine, recorder = Recording(loss=loss), Recorder()
    with pytest.raises(TrainingError, match="the loss of step 1 is"):
        make_loop(engine, total_steps=2).train(Progress(), [recorder])
    assert engine.updates == [] and recorder.ends == []


def test_hooks_see_a_step_in_their_order() -> None:
    seen: list[str] = []

    class Named(Recorder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def after_step(self, end: StepEnd) -> None:
            seen.append(f"{self.name}{end.metrics.step}")

    make_loop(Recording(), total_steps=2).train(Progress(), [Named("a"), Named("b")])
    assert seen == ["a1", "b1", "a2", "b2"]


class OfSets(Recording):
    """Rank 0 of two: one sum a data set; the other rank has 4 tokens of data set 1, weight 6, and a loss sum of 12."""

    def __init__(self) -> None:
        super().__init__(others={4 + 3: [6.0, 0.0, 4.0, 4.0, 0.0, 6.0, 0.0], 3: [0.0, 12.0, 0.0]})

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        super().accumulate(micro_batches, divisor=divisor)
        return [3.0, 2.0, 0.0]


def test_each_data_set_has_the_mean_loss_of_its_own_tokens_on_all_ranks() -> None:
    engine, recorder = OfSets(), Recorder()
    first, second = batch_of(3), batch_of(2)
    sets = [torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 1, 1]])]
    weights = [torch.tensor([[0.5, 1.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.5, 0.0, 0.0]])]
    batches = [
        replace(one, sets=numbers, num_sets=3, weights=own)
        for one, numbers, own in zip((first, second), sets, weights, strict=True)
    ]

    class Weighing(Counting):
        def count(self, batch: Batch) -> float:
            assert batch.weights is not None
            return float(batch.weights.sum())

    loop = Loop(
        **{
            **vars(make_loop(engine, total_steps=1)),
            "feed": fed_by(lambda _: batches),
            "objective": Weighing(),
            "set_names": ("math", "code", "chat"),
        }
    )
    assert loop.train(Progress(), [recorder])
    metrics = recorder.ends[0].metrics
    assert engine.divisors == [0.5 + 1.0 + 2.0 + 1.0 + 0.5 + 6.0]
    assert metrics.loss == (3.0 + 2.0 + 12.0) / 11.0
    assert metrics.set_losses == {"math": 3.0 / 1.5, "code": (2.0 + 12.0) / (2.0 + 1.5 + 6.0)}, "chat has no token here"
    assert metrics.trained_tokens == 3 + 2 + 4


def test_epochs_of_unequal_length_are_counted_by_their_own_steps() -> None:
    engine, recorder, progress = Recording(), Recorder(), Progress()
    order = Order(lambda epoch: single(np.arange((3, 6, 2)[epoch])), packs_per_step=2, seed=0, shuffle=False)
    loop = make_loop(engine, total_steps=6)
    assert isinstance(loop.feed, PreparedFeed)
    loop = replace(loop, feed=replace(loop.feed, order=order))
    assert loop.train(progress, [recorder])
    assert [end.metrics.epoch for end in recorder.ends] == pytest.approx([1 / 2, 1, 4 / 3, 5 / 3, 2, 3])
    assert [end.epoch_end for end in recorder.ends] == [False, True, False, False, True, True]


class Overflowing(Recording):
    """Its second step overflows float16."""

    def update(self, *, lr: float, max_grad_norm: float) -> Update:
        super().update(lr=lr, max_grad_norm=max_grad_norm)
        if len(self.updates) == 2:
            return Update(grad_norm=math.inf, skipped=True, loss_scale=32768.0)
        return Update(grad_norm=0.25, loss_scale=65536.0)


def test_a_skipped_step_is_a_step_without_a_norm_and_is_counted() -> None:
    engine, recorder, progress = Overflowing(), Recorder(), Progress()
    make_loop(engine, total_steps=3).train(progress, [recorder])
    metrics = [end.metrics for end in recorder.ends]
    assert [one.grad_norm for one in metrics] == [0.25, None, 0.25]
    assert [one.loss_scale for one in metrics] == [65536.0, 32768.0, 65536.0]
    assert [one.skipped_steps for one in metrics] == [0, 1, 1]
    assert [lr for lr, _ in engine.updates] == [0.5, 0.25, 0.5 / 3], "the schedule goes on"
    assert "grad_norm" not in metrics[1].values()
    assert Progress.from_json(progress.to_json()).skipped_steps == 1


def test_without_loss_scaling_nothing_of_it_is_measured() -> None:
    recorder = Recorder()
    make_loop(Recording(), total_steps=1).train(Progress(), [recorder])
    assert not {"loss_scale", "skipped_steps"} & recorder.ends[0].metrics.values().keys()
