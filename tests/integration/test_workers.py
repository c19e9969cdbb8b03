"""Several workers: they stop together, their errors become the parent's, and none outlives it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Child, Runs

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds workers through /proc"),
]

TWO: dict[str, Any] = {"world_size": 2, "gradient_accumulation_steps": 2, "save_strategy": "no", "save_steps": None}
LONG = {**TWO, "num_epochs": 300}
"""2,100 steps of about 10 ms: not done before a signal arrives."""


def workers_of(run: Child) -> dict[int, int]:
    """Rank -> process id."""
    ranks: dict[int, int] = {}
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        for entry in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                ranks[int(entry.removeprefix(b"RANK="))] = int(child)
    assert sorted(ranks) == [0, 1]
    return ranks


def is_gone(pid: int) -> bool:
    """Ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def await_steps(runs: Runs, run: Child, steps: int, wait_for: Callable[..., None]) -> None:
    wait_for(lambda: runs.steps(runs.folder / "run") >= steps or run.ended(), what=f"{steps} steps")
    assert not run.ended(), run.output()


def test_two_workers_save_once_on_a_signal_and_a_worker_that_dies_is_named(
    runs: Runs, wait_for: Callable[..., None]
) -> None:
    """The signal reaches parent and workers, as batch systems send it; the parent passes its own on to them."""
    out = runs.folder / "run"
    run = runs.start("run", **LONG)
    await_steps(runs, run, 3, wait_for)
    for pid in (*workers_of(run).values(), run.pid):
        os.kill(pid, signal.SIGTERM)
    assert run.wait() == 75, run.output()
    steps = runs.steps(out)
    assert run.output().count("saved ") == 1 and "Traceback" not in run.output()
    assert run.output().rstrip().endswith(f"stopped after step {steps}; the same command goes on from there")
    (folder,) = out.glob("checkpoint-*")
    assert folder.name == f"checkpoint-{steps}"
    assert sorted(path.name for path in folder.glob("rng-*")) == ["rng-00000.safetensors", "rng-00001.safetensors"]

    again = runs.start("run", **LONG)
    await_steps(runs, again, steps + 3, wait_for)
    assert f"going on from {folder}" in again.output()
    workers = workers_of(again)
    os.kill(workers[1], signal.SIGKILL)
    assert again.wait() == 7, again.output()
    assert "error: worker 1 died with signal 9" in again.output()
    assert "Traceback" not in again.output()
    assert all(is_gone(pid) for pid in workers.values())


def test_an_error_of_the_workers_is_told_once_without_a_traceback(runs: Runs) -> None:
    run = runs.start("run", **{**TWO, "learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": 0.0})
    assert run.wait() == 6, run.output()
    assert run.output().count("error: the loss of step 2 is nan; the weights are unchanged") == 1
    assert "Traceback" not in run.output()


@pytest.mark.slow
def test_a_second_signal_ends_workers_that_hang(runs: Runs, wait_for: Callable[..., None]) -> None:
    run = runs.start("run", **LONG)
    await_steps(runs, run, 3, wait_for)
    workers = workers_of(run)
    for pid in workers.values():
        os.kill(pid, signal.SIGSTOP)  # as good as a collective that never returns
    run.signal(signal.SIGTERM)
    with pytest.raises(TimeoutError):
        run.wait(seconds=1)
    wait_for(lambda: run.ended() or run.signal(signal.SIGTERM), what="the end")
    assert run.wait() == 128 + signal.SIGTERM, run.output()
    wait_for(lambda: all(is_gone(pid) for pid in workers.values()), what="the end of the workers")


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_was_killed(runs: Runs, wait_for: Callable[..., None]) -> None:
    """It would write into a folder that is not locked any more."""
    run = runs.start("run", **LONG)
    await_steps(runs, run, 3, wait_for)
    workers = workers_of(run)
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    wait_for(lambda: all(is_gone(pid) for pid in workers.values()), what="the end of the workers")
    steps = runs.steps(runs.folder / "run")
    time.sleep(0.5)
    assert runs.steps(runs.folder / "run") == steps < 2100


@pytest.mark.slow
def test_a_signal_while_workers_start_asks_for_the_same_command_again(
    runs: Runs, wait_for: Callable[..., None]
) -> None:
    run = runs.start("run", **TWO)
    wait_for(lambda: len(Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()) == 2, what="workers")
    run.signal(signal.SIGTERM)
    assert run.wait() == 75, run.output()
    assert "Traceback" not in run.output()
    assert runs.start("run", **TWO).wait() == 0


@pytest.mark.slow
def test_two_workers_go_on_bit_by_bit(runs: Runs, wait_for: Callable[..., None]) -> None:
    keys = {**TWO, "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "lora_target_linear": True,
            "num_epochs": 20, "val_set_size": 4, "eval_strategy": None, "eval_steps": 10}  # fmt: skip
    assert runs.start("undisturbed", **keys).wait() == 0
    undisturbed, out = runs.folder / "undisturbed", runs.folder / "run"
    for number in (signal.SIGTERM, signal.SIGINT):
        steps = runs.steps(out)
        run = runs.start("run", **keys)
        await_steps(runs, run, steps + 3, wait_for)
        run.signal(number)
        assert run.wait() == 75, run.output()
    assert runs.start("run", **keys).wait() == 0
    assert runs.metrics(out) == runs.metrics(undisturbed)
    assert runs.trained(out) == runs.trained(undisturbed)
