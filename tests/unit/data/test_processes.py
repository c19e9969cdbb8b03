"""Batches that are worked on in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from axo.data import processes
from axo.data.processes import AHEAD, Processes, num_processes
from axo.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")


def slow_at_first(task: int) -> tuple[int, int]:
    """The task's square, and who worked on it."""
    time.sleep(0.05 if task % 3 == 0 else 0.0)
    return task * task, os.getpid()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(count: int) -> None:
    with Processes(slow_at_first, count=count) as work:
        results = list(work.results(iter(range(20))))
    assert [square for square, _ in results] == [task * task for task in range(20)]
    workers = {worker for _, worker in results}
    assert workers == {os.getpid()} if count == 1 else os.getpid() not in workers


@pytest.mark.parametrize("tasks", [[], [7]])
def test_one_task_is_done_without_another_process(tasks: list[int]) -> None:
    with Processes(slow_at_first, count=3) as work:
        assert list(work.results(iter(tasks))) == [(49, os.getpid())] * len(tasks)


def test_the_same_processes_do_one_list_of_tasks_after_the_other() -> None:
    with Processes(slow_at_first, count=2) as work:
        first = {worker for _, worker in work.results(iter(range(9)))}
        again = list(work.results(iter(range(9, 12))))
    assert [square for square, _ in again] == [81, 100, 121]
    assert {worker for _, worker in again} <= first


def test_tasks_are_not_read_far_ahead() -> None:
    read: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(100):
            read.append(task)
            yield task

    with Processes(slow_at_first, count=2) as work:
        for done, _ in enumerate(work.results(tasks()), 1):
            assert len(read) <= done + 2 * AHEAD


def collect(results: Iterator[int], into: list[int]) -> None:
    for result in results:
        into.append(result)


def refuse_five(task: int) -> int:
    if task == 5:
        raise DataError("five", "leave it out", file="rows.jsonl", line=5, field="number")
    return task


@pytest.mark.parametrize("count", [1, 2])
def test_a_fault_comes_behind_the_results_before_it_and_keeps_its_place(count: int) -> None:
    done: list[int] = []
    with Processes(refuse_five, count=count) as work, pytest.raises(DataError) as caught:
        collect(work.results(iter(range(40))), done)
    assert str(caught.value) == "rows.jsonl:5:number: five\n  leave it out"
    assert (caught.value.line, caught.value.findings[0].key) == (5, "number")
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("broken", [0, 1, 2, 7])
def test_a_fault_of_reading_comes_behind_the_results_of_what_was_read(count: int, broken: int) -> None:
    def tasks() -> Iterator[int]:
        yield from range(broken)
        raise DataError("broken")

    done: list[int] = []
    with Processes(slow_at_first, count=count) as work, pytest.raises(DataError, match="broken"):
        collect((square for square, _ in work.results(tasks())), done)
    assert done == [task * task for task in range(broken)]


def killed(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_killed_process_is_a_fault_that_says_what_to_do() -> None:
    with Processes(killed, count=2) as work, pytest.raises(DataError, match=r"was killed\n.*dataset_num_proc"):
        list(work.results(iter(range(5))))


ORPHANS = r"""
import os, signal, sys, time
from axo.data.processes import Processes
def work(task):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(60)
with Processes(work, count=2) as processes:
    list(processes.results(iter(range(4))))
"""


def test_no_process_outlives_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(("asked", "cpus", "number"), [(None, 4, 4), (None, 99, 16), (40, 4, 40), (1, 4, 1), (0, 4, 1)])
def test_as_many_processes_as_asked_or_as_there_are_cpus(
    asked: int | None, cpus: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "cpu_count", lambda: cpus)
    assert num_processes(asked) == number


def test_where_processes_cannot_be_copied_one_works_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(processes.LOG, "warning", lambda text, *values: said.append(text % values))
    assert (num_processes(None), num_processes(3)) == (1, 1)
    assert said == ["dataset_num_proc: 3: data is prepared by one process on this system"]
