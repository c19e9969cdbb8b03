"""Workers that are killed, hang, fail or are told to stop: who is named, how the run ends, and how it goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from tests.integration.conftest import Runs, await_true
from tests.integration.conftest import runs as runs  # the fixture

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
]

TWO: dict[str, Any] = {"world_size": 2, "gradient_accumulation_steps": 2, "save_steps": 2}
"""14 steps; the same rows a step as one worker with 4 micro-batches."""

FAULT = """
import os, signal, sys, time
if "axo.train.worker" in sys.orig_argv and os.environ["RANK"] == "{rank}":
    from axo.train import hang

    marks = hang.marks
    wanted = {always} or os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def fault():
{code}

    def marks_with_fault(folder, rank):
        mark = marks(folder, rank)

        def mark_with_fault(step, phase):
            mark(step, phase)
            if wanted and (step, phase) == ({step}, "{phase}"):
                fault()

        return mark_with_fault

    hang.marks = marks_with_fault
"""


def fault(
    runs: Runs, *, code: str, rank: int, step: int, phase: str = "forward and backward", always: bool = False
) -> Callable[[], None]:
    """To be called in the parent: worker `rank` runs `code` where a phase of a step begins; only when it is started for
    the first time, or `always`."""
    folder = runs.folder / "site"
    folder.mkdir(exist_ok=True)
    text = FAULT.format(rank=rank, step=step, phase=phase, code=indent(code, 8 * " "), always=always)
    (folder / "sitecustomize.py").write_text(text)
    return lambda: os.environ.update(PYTHONPATH=f"{folder}:{os.environ.get('PYTHONPATH', '')}")


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.slow
def test_a_killed_worker_is_named_and_all_go_on_to_the_losses_of_an_undisturbed_run(runs: Runs) -> None:
    """Killed in step 6, after the checkpoint of step 4; one worker in this process is the run without disturbance."""
    undisturbed = runs.metrics(runs.train("undisturbed", save_steps=2))
    run = runs.start("run", first=fault(runs, code=KILL, rank=1, step=6), max_restarts=1, **TWO)
    assert run.wait() == 0, run.output()
    found = runs.metrics(runs.folder / "run")
    assert [line["step"] for line in found] == list(range(1, 15))
    for one, other in zip(undisturbed, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert "worker 1 died with signal 9 (SIGKILL) on host" in run.output()
    assert "in step 6 (forward and backward); all workers start again from the last checkpoint (1 of 1" in run.output()
    assert "2 ranks on 1 host agree; all-reduce of 4 MiB in " in run.output()
    assert "Traceback" not in run.output() and "peer" not in run.output()


@pytest.mark.slow
def test_restarts_are_used_up(runs: Runs) -> None:
    run = runs.start("run", first=fault(runs, code=KILL, rank=0, step=3, always=True), max_restarts=1, **TWO)
    assert run.wait() == 7, run.output()
    assert run.output().count("all workers start again") == 1
    assert "error: worker 0 died with signal 9 (SIGKILL)" in run.output() and "in step 3" in run.output()
    assert "SIGKILL comes from the kernel when memory runs out" in run.output()
    assert "Traceback" not in run.output() and "peer" not in run.output()


@pytest.mark.slow
@pytest.mark.parametrize("max_restarts", [0, 2])
def test_an_error_that_would_come_again_is_told_and_nobody_starts_again(runs: Runs, max_restarts: int) -> None:
    code = "from axo.errors import DataError\nraise DataError('wrong label', 'mend it', file='rows.jsonl', line=3)"
    run = runs.start("run", first=fault(runs, code=code, rank=1, step=3), max_restarts=max_restarts, **TWO)
    assert run.wait() == 3, run.output()
    assert run.output().rstrip().endswith("error: rows.jsonl:3: wrong label\n  mend it")
    assert "start again" not in run.output() and "peer" not in run.output()


@pytest.mark.slow
def test_a_bug_on_one_rank_is_shown_with_its_traceback_and_not_that_of_the_others(runs: Runs) -> None:
    run = runs.start("run", first=fault(runs, code="{}['no such key']", rank=1, step=3), **TWO)
    assert run.wait() == 7, run.output()
    assert "KeyError: 'no such key'" in run.output()
    assert "error: worker 1 died with exit code 1 on host" in run.output()
    assert "peer" not in run.output() and run.output().count("Traceback") == 1


HANGS = {
    "in Python, between collectives": ("forward and backward", "while True: time.sleep(0.01)"),
    "in C code that holds the GIL": (
        "forward and backward",
        "import ctypes\nwhile True: ctypes.PyDLL(None).sleep(1000)",
    ),
    "before the first collective of the step": ("batches", "while True: time.sleep(0.01)"),
    "after the step before": ("after the step", "while True: time.sleep(0.01)"),
    "stopped by a signal": ("forward and backward", "os.kill(os.getpid(), signal.SIGSTOP)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", HANGS)
def test_a_rank_that_hangs_is_named_and_not_the_one_that_waits_for_it(runs: Runs, how: str, rank: int) -> None:
    phase, code = HANGS[how]
    first = fault(runs, code=code, rank=rank, step=5, phase=phase)
    run = runs.start("run", first=first, hang_timeout=4, **TWO)
    assert run.wait() == 7, run.output()
    assert f"error: rank {rank} on host " in run.output()
    assert f"did not finish step 5 in 4 s (hang_timeout): last seen in '{phase}'" in run.output()
    assert "the others wait for it" in run.output()
    if how == "stopped by a signal":
        assert "stopped by a signal such as SIGSTOP" in run.output()
    else:
        assert "sitecustomize.py" in run.output() and "in fault" in run.output()
    assert f"rank {1 - rank} on" not in run.output()
    assert "Traceback" not in run.output()


@pytest.mark.slow
def test_a_rank_that_hung_once_is_started_again(runs: Runs) -> None:
    code = "while True: time.sleep(0.01)"
    run = runs.start("run", first=fault(runs, code=code, rank=1, step=5), hang_timeout=5, max_restarts=1, **TWO)
    assert run.wait() == 0, run.output()
    assert "rank 1 on host" in run.output() and "all workers start again" in run.output()
    assert runs.steps(runs.folder / "run") == 14


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["a worker", "the parent"])
def test_a_signal_at_one_process_ends_all_after_one_checkpoint(runs: Runs, whom: str) -> None:
    code = "os.kill(os.getpid() if {} else os.getppid(), signal.SIGTERM)".format(whom == "a worker")
    run = runs.start(
        "run", first=fault(runs, code=code, rank=1, step=5), **{**TWO, "save_steps": 100, "max_restarts": 1}
    )
    assert run.wait() == 75, run.output()
    out = runs.folder / "run"
    steps = runs.steps(out)
    assert steps in (5, 6, 7), "the step of the signal, or a next one"
    assert [path.name for path in out.glob("checkpoint-*")] == [f"checkpoint-{steps}"]
    assert "Traceback" not in run.output() and "start again" not in run.output()
    again = runs.start("run", **{**TWO, "save_steps": 100})
    assert again.wait() == 0, again.output()
    assert runs.steps(out) == 14


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("engine", ["ddp", "fsdp", "deepspeed"])
def test_a_disk_that_is_full_for_one_rank_leaves_the_last_good_checkpoint(runs: Runs, engine: str, rank: int) -> None:
    """A limit on the size of files fails writes as a full disk does; under ddp rank 1 writes only its random state."""
    if engine == "deepspeed":
        pytest.importorskip("deepspeed")
    keys = {**TWO, **{"fsdp": {"dp_shard_size": 2}, "deepspeed": {"deepspeed": ZERO_2}}.get(engine, {})}
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900, resource.RLIM_INFINITY))"
    run = runs.start("run", first=fault(runs, code=code, rank=rank, step=6), **keys)
    assert run.wait() == 5, run.output()
    assert "could not be written" in run.output() and "Traceback" not in run.output()
    again = runs.start("run", **keys)
    assert again.wait() == 0, again.output()
    assert f"going on from {runs.folder / 'run' / 'checkpoint-4'}" in again.output()


ZERO_2 = {"zero_optimization": {"stage": 2}}


@pytest.mark.slow
def test_a_worker_that_hangs_after_a_signal_does_not_keep_the_second_one(runs: Runs) -> None:
    run = runs.start("run", first=fault(runs, code="time.sleep(1000)", rank=1, step=3), **TWO)
    await_true(lambda: runs.steps(runs.folder / "run") == 2, what="step 2")
    run.signal(signal.SIGTERM)
    await_true(lambda: run.ended() or run.signal(signal.SIGTERM), what="the end")
    assert run.wait() == 128 + signal.SIGTERM
