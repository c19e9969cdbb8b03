"""Starting workers: in this process for one; several, with small programs in their place, end as one error here."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from axo.errors import AxoError, DataError, LaunchError, Stopped, TrainingError
from axo.launch import local, processes, verdict
from axo.launch.local import launch
from axo.plan.plan import EnginePlan


def engine(world_size: int, *, max_restarts: int = 0, hang_timeout: int | None = None) -> EnginePlan:
    name = "single" if world_size == 1 else "ddp"
    return EnginePlan(
        name=name, device="cpu", world_size=world_size, threads=3, timeout_seconds=60, max_restarts=max_restarts,
        hang_timeout_seconds=hang_timeout,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "AXO_HOSTS", "TORCHELASTIC_SIGNALS_TO_HANDLE", "TORCH_CPP_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verdict._REST_SECONDS, "killed", 0.2)
    monkeypatch.setattr(processes, "STACK_SECONDS", 0.3)


def never() -> None:
    pytest.fail("started in this process")


def test_one_worker_runs_in_this_process_with_the_plans_threads() -> None:
    seen: list[str | None] = []
    launch(engine(1), write_job=lambda path: never(), in_process=lambda: seen.append(os.environ["OMP_NUM_THREADS"]))
    assert seen == ["3"]


def test_an_error_in_this_process_is_raised_as_it_is() -> None:
    error = DataError("wrong", file="x.jsonl", line=3)

    def work() -> None:
        raise error

    with pytest.raises(DataError) as raised:
        launch(engine(1), write_job=lambda path: never(), in_process=work)
    assert raised.value is error


Start = Callable[..., Path]
BEGIN = """
import json, os, pathlib, signal, sys, time
job = pathlib.Path(sys.argv[1])
rank, start = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
out = pathlib.Path(json.loads(job.read_text()))

def report(code, message):
    text = json.dumps({"exit_code": code, "message": message, "hint": "do this", "rank": rank})
    (job.parent / f"error-{rank:05d}.json").write_text(text)
    sys.exit(code)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start workers that run a few lines of Python. Gives the folder that the lines may write into as `out`."""

    def run(lines: str, plan: EnginePlan) -> Path:
        worker, out = tmp_path / "worker.py", tmp_path / "out"
        out.mkdir()
        worker.write_text(BEGIN + dedent(lines))
        monkeypatch.setattr(local, "WORKER", (str(worker),))
        launch(plan, write_job=lambda path: path.write_text(json.dumps(str(out))) and None, in_process=never)
        return out

    return run


def test_several_workers_get_the_job_their_number_and_threads_and_leave_no_folder_behind(start: Start) -> None:
    out = start('(out / str(rank)).write_text(os.environ["OMP_NUM_THREADS"] + " " + str(job.parent))', engine(3))
    said = [(out / str(rank)).read_text().split() for rank in range(3)]
    assert [threads for threads, _ in said] == ["3", "3", "3"]
    assert not Path(said[0][1]).exists()


@pytest.mark.parametrize("kind", [TrainingError, Stopped, AxoError])
def test_an_error_of_a_worker_is_raised_here_with_its_exit_code(start: Start, kind: type[AxoError]) -> None:
    with pytest.raises(AxoError) as raised:
        start(f'if rank == 1: report({kind.exit_code}, "what")', engine(2, max_restarts=3))
    assert raised.value.exit_code == kind.exit_code
    assert str(raised.value) == "what\n  do this"
    assert type(raised.value) is kind


def test_the_worker_that_was_killed_is_named_and_one_that_waits_for_it_is_ended(start: Start) -> None:
    lines = """
    if rank == 1:
        (job.parent / "mark-00001.txt").write_text("12 update")
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
    """
    with pytest.raises(LaunchError, match=r"worker 1 died with signal 9 \(SIGKILL\) on host .*, in step 12 \(update\)"):
        start(lines, engine(2))


def test_a_bug_is_shown_with_its_own_traceback_only(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    lines = """
    text = "KeyError: 'bug'" if rank == 1 else "RuntimeError: Connection reset by peer"
    (job.parent / f"traceback-{rank:05d}.txt").write_text(text)
    sys.exit(1)
    """
    with caplog.at_level("ERROR", logger="axo"), pytest.raises(LaunchError, match="worker 1 died with exit code 1"):
        start(lines, engine(2))
    assert "KeyError: 'bug'" in caplog.text and "Connection" not in caplog.text


def test_all_workers_start_again_as_often_as_allowed(start: Start) -> None:
    lines = """
    (out / f"{start}-{rank}").touch()
    if rank == 0 and start < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if start < 2:
        time.sleep(1000)
    """
    out = start(lines, engine(2, max_restarts=2))
    assert sorted(path.name for path in out.iterdir()) == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]


def test_a_worker_that_is_stopped_in_a_step_is_named(start: Start) -> None:
    lines = """
    (job.parent / f"mark-{rank:05d}.txt").write_text("3 counts" if rank == 0 else "3 batches")
    os.kill(os.getpid(), signal.SIGSTOP)
    """
    with pytest.raises(LaunchError, match=r"rank 1 on host .* did not finish step 3 in 1 s .* stopped by a signal"):
        start(lines, engine(2, hang_timeout=1))


def test_a_signal_goes_on_to_the_workers_and_what_they_say_is_raised(start: Start, tmp_path: Path) -> None:
    lines = """
    signal.signal(signal.SIGTERM, lambda number, frame: report(75, "stopped after step 3"))
    (out / str(rank)).touch()
    time.sleep(1000)
    """

    def send() -> None:
        while len(list((tmp_path / "out").glob("*"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(Stopped, match="stopped after step 3"):
        start(lines, engine(2, max_restarts=1))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
