"""SIGTERM and SIGINT: finish the step, save, exit 75; the same command goes on; a second signal ends at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

STOPPED = 75


def wait_in_step(step: int, *, until: Callable[[], bool]) -> None:
    """Make the training in this process take its time between a step and the next one."""
    from axo.train.hooks.metrics_file import MetricsFile

    write = MetricsFile.after_step

    def after_step(self: MetricsFile, end: Any) -> None:
        write(self, end)
        while end.metrics.step == step and not until():
            time.sleep(0.005)

    MetricsFile.after_step = after_step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_and_the_same_command_goes_on(
    runs: Runs, wait_for: Callable[..., None], number: signal.Signals
) -> None:
    undisturbed = runs.train("undisturbed", save_strategy="no", save_steps=None)
    sent = runs.folder / "sent"
    keys = {"save_strategy": "no", "save_steps": None}
    run = runs.start("run", first=lambda: wait_in_step(3, until=sent.exists), **keys)
    out = runs.folder / "run"
    wait_for(lambda: runs.steps(out) == 3, what="step 3")
    run.signal(number)
    sent.touch()
    assert run.wait() == STOPPED, run.output()
    assert "stopped after step 4; the same command goes on from there" in run.output()
    assert "Traceback" not in run.output()
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-4"] and runs.steps(out) == 4

    again = runs.start("run", **keys)
    assert again.wait() == 0, again.output()
    assert f"going on from {out / 'checkpoint-4'}" in again.output()
    assert runs.metrics(out) == runs.metrics(undisturbed)
    assert runs.trained(out) == runs.trained(undisturbed)

    finished = runs.start("run", **keys)
    assert finished.wait() == 0 and f"finished already: {out}" in finished.output()
    assert runs.metrics(out) == runs.metrics(undisturbed)


def test_a_second_signal_ends_the_run_at_once(runs: Runs, wait_for: Callable[..., None]) -> None:
    run = runs.start("run", first=lambda: wait_in_step(3, until=lambda: False))
    out = runs.folder / "run"
    wait_for(lambda: runs.steps(out) == 3, what="step 3")
    run.signal(signal.SIGTERM)
    with pytest.raises(TimeoutError):
        run.wait(seconds=0.3)
    wait_for(lambda: run.ended() or run.signal(signal.SIGTERM), what="the end")  # two that come at once count as one
    assert run.wait() == 128 + signal.SIGTERM
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"]
    assert runs.steps(out) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_step_says_so_and_leaves_a_folder_that_the_same_command_takes(
    runs: Runs, number: signal.Signals
) -> None:
    out = runs.folder / "run"

    def stop_when_loading() -> None:
        from axo.train import run

        run.make_engine = lambda plan: os.kill(os.getpid(), number)  # type: ignore[assignment]

    stopped = runs.start("run", first=stop_when_loading)
    assert stopped.wait() == STOPPED
    assert (
        "error: stopped before the first step: nothing was saved\n  the same command starts again" in stopped.output()
    )
    assert "Traceback" not in stopped.output()
    assert (out / "run.json").exists()
    runs.train("run")
    assert runs.steps(out) == 14


def test_a_second_run_on_the_same_folder_is_refused_while_the_first_goes_on(
    runs: Runs, wait_for: Callable[..., None]
) -> None:
    done = runs.folder / "done"
    first = runs.start("run", first=lambda: wait_in_step(3, until=done.exists))
    wait_for(lambda: runs.steps(runs.folder / "run") == 3, what="step 3")
    second = runs.start("run", name_of_log="second")
    assert second.wait() == 5
    assert f"error: {runs.folder / 'run'} is in use by another axo run" in second.output()
    assert "Traceback" not in second.output()
    done.touch()
    assert first.wait() == 0, first.output()
