"""Ends of runs before their last step, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from axo.errors import TrainingError
from axo.plan.plan import Cadence
from axo.train.checkpoint import prune
from axo.train.events import Best, Progress, StepEnd, StepMetrics
from axo.train.hooks.early_stopping import EarlyStopping
from axo.train.hooks.saving import SavingHook
from axo.train.hooks.watchdog import Watchdog
from axo.train.manifest import MANIFEST


def step_end(progress: Progress, *, loss: float = 1.0, last: bool = False, **evaluation: float) -> StepEnd:
    progress.step += 1
    metrics = StepMetrics(
        step=progress.step, epoch=0.5, loss=loss, lr=1e-4, grad_norm=1.0, trained_tokens=10, tokens_per_second=5.0,
        peak_memory_bytes=1,
    )  # fmt: skip
    return StepEnd(metrics, progress, epoch_end=False, last=last, stopping=False, evaluation=evaluation)


def resumed(progress: Progress) -> Progress:
    """As a checkpoint keeps it."""
    return Progress.from_json(json.loads(json.dumps(progress.to_json())))


@pytest.mark.parametrize("interrupted", [False, True], ids=["at once", "resumed after each step"])
def test_a_run_stops_after_so_many_losses_in_a_row_above_the_threshold(interrupted: bool) -> None:
    watchdog, progress = Watchdog(threshold=5.0, patience=3), Progress()
    for loss in (6.0, 7.0, 5.0, 5.1, 9.0):
        end = step_end(progress, loss=loss)
        watchdog.after_step(end)
        assert end.ending.fault is None
        progress = resumed(progress) if interrupted else progress
    end = step_end(progress, loss=8.0)
    watchdog.after_step(end)
    fault = end.ending.fault
    assert isinstance(fault, TrainingError)
    assert fault.message == "step 6: the loss is 8, and was above loss_watchdog_threshold 5 in 3 steps in a row"
    assert "checkpoint-6" in (fault.hint or "")


def test_a_state_that_went_wrong_is_saved_beside_all_others() -> None:
    saved: list[tuple[int, bool]] = []

    class Checkpoints:
        def save(self, progress: Progress, *, keep_all: bool = False) -> Path:
            saved.append((progress.step, keep_all))
            return Path("checkpoint")

    progress = Progress()
    hooks = [Watchdog(threshold=5.0, patience=2), SavingHook(Checkpoints(), when=Cadence(steps=100))]  # type: ignore[arg-type]
    for loss in (1.0, 6.0, 6.0):
        end = step_end(progress, loss=loss)
        for hook in hooks:
            hook.after_step(end)
    assert saved == [(3, True)]


def run_of(hook: EarlyStopping, values: list[float], *, interrupted: bool = False) -> tuple[int | None, Progress]:
    """The step that ended the run, evaluated after each second step, and its progress."""
    progress = Progress()
    for value in values:
        for evaluation in ({}, {"eval_loss": value}):
            end = step_end(progress, **evaluation)
            hook.after_step(end)
            if end.ending.finished:
                return progress.step, progress
            progress = resumed(progress) if interrupted else progress
    return None, progress


@pytest.mark.parametrize("interrupted", [False, True], ids=["at once", "resumed after each step"])
def test_a_run_stops_early_after_so_many_evaluations_in_a_row_that_are_no_better(interrupted: bool) -> None:
    hook = EarlyStopping("eval_loss", greater_is_better=False, patience=2)
    step, progress = run_of(hook, [3.0, 2.0, 2.5, 1.9, 1.9, 2.4, 1.0], interrupted=interrupted)
    assert step == 12  # the evaluations 5 and 6: an equal one is no better
    assert progress.best == Best("eval_loss", 1.9, 8)
    assert progress.saved_best is None


def test_more_can_be_better_and_patience_is_not_needed() -> None:
    hook = EarlyStopping("eval_loss", greater_is_better=True, patience=None, saves=Cadence(steps=4))
    step, progress = run_of(hook, [3.0, 2.0, 2.5, 1.9])
    assert step is None
    assert progress.best == Best("eval_loss", 3.0, 2)
    assert progress.saved_best == Best("eval_loss", 2.0, 4)  # of steps 4 and 8, which are saved


def test_the_last_step_counts_as_saved_for_it_is_the_result() -> None:
    hook = EarlyStopping("eval_loss", greater_is_better=False, patience=None, saves=Cadence(steps=2))
    progress = Progress(step=2, best=Best("eval_loss", 2.0, 2), saved_best=Best("eval_loss", 2.0, 2))
    hook.after_step(step_end(progress, last=True, eval_loss=1.5))
    assert progress.saved_best == Best("eval_loss", 1.5, 3)


def test_another_measure_or_no_number_begins_anew() -> None:
    hook = EarlyStopping("eval_loss", greater_is_better=False, patience=1)
    for known in (Best("eval_token_accuracy", 0.1, 1), Best("eval_loss", float("nan"), 1)):
        progress = Progress(step=1, best=known)
        end = step_end(progress, eval_loss=4.0)
        hook.after_step(end)
        assert progress.best == Best("eval_loss", 4.0, 2)
        assert not end.ending.finished


def test_a_measure_that_no_evaluation_gives_is_an_error() -> None:
    hook = EarlyStopping("eval_loss_maths", greater_is_better=False, patience=1)
    with pytest.raises(TrainingError, match="gives no eval_loss_maths") as raised:
        hook.after_step(step_end(Progress(), eval_loss=1.0, eval_loss_math=1.0))
    assert raised.value.hint == "it gives eval_loss, eval_loss_math"


@pytest.mark.parametrize(("keep", "left"), [(1, [2, 9]), (2, [2, 9]), (3, [2, 7, 9]), (9, [2, 3, 5, 7, 9])])
def test_the_best_checkpoint_is_never_removed(keep: int, left: list[int], tmp_path: Path) -> None:
    for step in (2, 3, 5, 7, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / MANIFEST).write_text("{}")
    prune(tmp_path / "checkpoint-9", keep=keep, best=tmp_path / "checkpoint-2")
    assert sorted(int(path.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")) == left
