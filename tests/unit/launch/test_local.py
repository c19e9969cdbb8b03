"""Starting workers: in this process for one, and what several leave behind becomes one error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axo.errors import AxoError, DataError, Finding, LaunchError, RecipeError, Stopped, TrainingError
from axo.launch.local import launch
from axo.plan.plan import EnginePlan


def engine(world_size: int) -> EnginePlan:
    name = "single" if world_size == 1 else "ddp"
    return EnginePlan(name=name, device="cpu", world_size=world_size, threads=3, timeout_seconds=60)


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


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


Report = dict[str, Any]
Start = Callable[[list[Report], dict[int, int]], list[Any]]


@pytest.fixture
def workers_end(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Stands for torchrun: its workers write these reports and end with these exit codes, in this order."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
    from torch.distributed.launcher import api

    def install(reports: list[Report], exit_codes: dict[int, int]) -> list[Any]:
        seen: list[Any] = []

        def elastic_launch(config: Any, entrypoint: str) -> Callable[..., None]:
            def start(*words: str) -> None:
                job = Path(words[-1])
                seen.append((config.nproc_per_node, words[:-1], job.read_text(), job))
                for report in reports:
                    file = job.with_name(f"error-{report['rank']:05d}.json")
                    file.write_text(json.dumps({"hint": None, **report}))
                failures = {}
                for order, (rank, code) in enumerate(exit_codes.items()):
                    failures[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=code, error_file="")
                    failures[rank].timestamp = order
                if failures:
                    raise ChildFailedError("axo", failures)

            return start

        monkeypatch.setattr(api, "elastic_launch", elastic_launch)
        return seen

    return install


def start(world_size: int = 2) -> None:
    launch(engine(world_size), write_job=lambda path: path.write_text("the job") and None, in_process=never)


def test_several_workers_get_the_job_and_leave_no_folder_behind(workers_end: Start) -> None:
    seen = workers_end([], {})
    start(4)
    ((number, words, content, job),) = seen
    assert (number, words, content) == (4, ("-m", "axo.train.worker"), "the job")
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert not job.parent.exists()


@pytest.mark.parametrize("kind", [TrainingError, Stopped, AxoError])
def test_an_error_of_a_worker_is_raised_here_with_its_exit_code(workers_end: Start, kind: type[AxoError]) -> None:
    report = {"rank": 1, "exit_code": kind.exit_code, "message": "what", "hint": "do this"}
    workers_end([report], {1: kind.exit_code})
    with pytest.raises(AxoError) as raised:
        start()
    assert raised.value.exit_code == kind.exit_code
    assert str(raised.value) == "what\n  do this"
    assert type(raised.value) is kind


def test_findings_of_a_worker_keep_their_keys(workers_end: Start) -> None:
    finding = {"key": "lora_r", "message": "what", "hint": "do this", "file": None, "line": None}
    workers_end([{"rank": 0, "exit_code": 2, "message": "", "hint": None, "findings": [finding]}], {0: 2})
    with pytest.raises(RecipeError) as raised:
        start()
    assert raised.value.findings == (Finding("lora_r", "what", "do this"),)


def test_a_worker_that_dies_without_a_word_is_named_with_its_signal(workers_end: Start) -> None:
    seen = workers_end([], {0: 1, 1: -9})
    with pytest.raises(LaunchError, match="worker 1 died with signal 9"):
        start()
    assert not seen[0][-1].parent.exists()
