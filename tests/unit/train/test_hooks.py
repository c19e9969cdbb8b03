"""What happens between steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from axo.plan.plan import Cadence
from axo.train.evaluate import Evaluation
from axo.train.events import Progress, StepEnd, StepMetrics
from axo.train.hooks.console import Console
from axo.train.hooks.evaluation import EvaluationHook
from axo.train.hooks.metrics_file import MetricsFile
from axo.train.hooks.saving import SavingHook
from axo.train.hooks.tracking import TrackingHook


def step_end(step: int, *, last: bool = False, epoch_end: bool = False, stopping: bool = False) -> StepEnd:
    metrics = StepMetrics(
        step=step, epoch=0.5, loss=2.0, lr=1e-4, grad_norm=1.0, trained_tokens=10, tokens_per_second=5.0,
        peak_memory_bytes=1,
    )  # fmt: skip
    return StepEnd(metrics, Progress(step=step, epoch=1, step_in_epoch=3), epoch_end, last, stopping)


def test_metrics_are_cut_back_to_the_checkpoint_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    hook = MetricsFile(path, step=0)
    for step in (1, 2, 3):
        hook.after_step(step_end(step))
    hook.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # a run that was killed while writing
    again = MetricsFile(path, step=2)
    again.after_step(step_end(3))
    again.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_evaluation_stands_on_the_line_of_its_step(tmp_path: Path) -> None:
    evaluation = EvaluationHook(lambda: Evaluation(1.0, 2.7, 0.5, 9), when=Cadence(steps=2))
    metrics = MetricsFile(tmp_path / "metrics.jsonl", step=0)
    for step in (1, 2):
        end = step_end(step)
        evaluation.after_step(end)
        metrics.after_step(end)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "eval_loss" not in lines[0]
    assert (lines[1]["eval_loss"], lines[1]["eval_token_accuracy"]) == (1.0, 0.5)


class Tracker:
    name = "broken tracker"

    def __init__(self) -> None:
        self.calls = 0

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        self.calls += 1
        raise ConnectionError("no route to host")

    def close(self) -> None:
        raise ConnectionError("no route to host")


def test_a_failing_tracker_is_switched_off_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker()
    hook = TrackingHook(tracker, logging_steps=1)
    with caplog.at_level("WARNING", logger="axo"):
        hook.after_step(step_end(1))
        hook.after_step(step_end(2))
        hook.close()
    assert tracker.calls == 1
    assert [record.message for record in caplog.records] == [
        "broken tracker failed and is switched off: no route to host"
    ]


class Saved:
    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.kept_all: list[bool] = []

    def save(self, progress: Progress, *, keep_all: bool = False) -> Path:
        self.progress.append(progress)
        self.kept_all.append(keep_all)
        return Path("checkpoint")


def test_a_stop_saves_whatever_the_cadence_and_no_cadence_saves_nothing() -> None:
    saved = Saved()
    hook = SavingHook(saved, when=None)  # type: ignore[arg-type]
    hook.after_step(step_end(1))
    hook.after_step(step_end(2, last=True))
    assert saved.progress == []
    hook.after_step(step_end(3, stopping=True))
    assert [progress.step for progress in saved.progress] == [3]


def test_a_checkpoint_after_an_epoch_stands_at_the_start_of_the_next() -> None:
    saved = Saved()
    hook = SavingHook(saved, when=Cadence(epoch=True))  # type: ignore[arg-type]
    hook.after_step(step_end(3, epoch_end=True))
    assert (saved.progress[0].epoch, saved.progress[0].step_in_epoch) == (2, 0)


def test_losses_of_data_sets_stand_on_the_line_of_their_step(tmp_path: Path) -> None:
    sent: list[dict[str, float]] = []

    class Sending:
        name = "sending"

        def log(self, metrics: dict[str, float], *, step: int) -> None:
            sent.append(metrics)

        def close(self) -> None:
            return

    end = step_end(1)
    end = replace(end, metrics=replace(end.metrics, set_losses={"math": 1.5, "code": 2.5}))
    scored = Evaluation(1.0, 2.7, 0.5, 9, set_losses={"math": 0.75, "code": 1.25})
    hooks = [
        EvaluationHook(lambda: scored, when=Cadence(steps=1)),
        MetricsFile(tmp_path / "metrics.jsonl", step=0),
        TrackingHook(Sending(), logging_steps=1),
    ]
    for hook in hooks:
        hook.after_step(end)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert {key: value for key, value in line.items() if "math" in key or "code" in key} == {
        "loss_math": 1.5, "loss_code": 2.5, "eval_loss_math": 0.75, "eval_loss_code": 1.25,
    }  # fmt: skip
    assert "set_losses" not in line
    assert (sent[0]["train/loss_math"], sent[0]["eval/loss_code"]) == (1.5, 1.25)


def test_a_skipped_step_is_said_and_the_last_line_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="axo")
    console = Console(total_steps=9, logging_steps=100)
    for step, norm in ((7, None), (9, 1.5)):
        end = step_end(step, last=step == 9)
        metrics = replace(end.metrics, grad_norm=norm, loss_scale=1024.0, skipped_steps=3)
        console.after_step(replace(end, metrics=metrics))
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "step 7  skipped: its gradients overflowed float16; the loss is scaled by 1024 from here on"
    assert said[-1] == "3 of 9 steps were skipped"
