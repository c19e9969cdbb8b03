"""What the parent makes of workers that failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from axo.errors import AxoError, CheckpointError, DataError, HardwareError, LaunchError, Stopped, TrainingError
from axo.launch.failures import death, error_of_workers


@dataclass
class Failure:
    exitcode: int
    timestamp: int


def report(folder: Path, rank: int, exit_code: int, message: str) -> None:
    content = {"exit_code": exit_code, "message": message, "hint": None, "rank": rank}
    (folder / f"error-{rank:05d}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", [DataError, HardwareError, CheckpointError, TrainingError, LaunchError, Stopped])
def test_an_error_keeps_its_kind_and_exit_code(tmp_path: Path, kind: type[AxoError]) -> None:
    report(tmp_path, 1, kind.exit_code, "what happened")
    error = error_of_workers(tmp_path)
    assert type(error) is kind and error.message == "what happened"


def test_a_cause_comes_before_the_stop_that_it_led_to(tmp_path: Path) -> None:
    report(tmp_path, 0, Stopped.exit_code, "stopped")
    report(tmp_path, 3, TrainingError.exit_code, "the loss is nan")
    assert isinstance(error_of_workers(tmp_path), TrainingError)


def test_the_worker_that_was_killed_is_named_though_another_was_seen_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others lose their connection, or get the agent's SIGTERM."""
    (tmp_path / "traceback-00000.txt").write_text("Connection reset by peer")
    failures = {0: Failure(1, 10), 1: Failure(-9, 11), 2: Failure(-15, 9)}
    error = death(failures, tmp_path)
    assert error.message == "worker 1 died with signal 9"
    assert "Connection" not in caplog.text


def test_a_bug_is_shown_with_the_traceback_of_the_worker_that_had_it_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "traceback-00000.txt").write_text("Connection reset by peer")
    (tmp_path / "traceback-00001.txt").write_text("KeyError: 'bug'")
    with caplog.at_level("ERROR", logger="axo"):
        error = death({0: Failure(1, 11), 1: Failure(1, 10)}, tmp_path)
    assert error.message == "worker 1 died with exit code 1"
    assert "KeyError: 'bug'" in caplog.text and "Connection" not in caplog.text
