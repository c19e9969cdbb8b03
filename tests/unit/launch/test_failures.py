"""What the parent makes of what a worker left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from axo.errors import (
    AxoError,
    CheckpointError,
    DataError,
    Finding,
    HardwareError,
    LaunchError,
    RecipeError,
    Stopped,
    TrainingError,
)
from axo.launch.failures import End, Kind, describe_death, read_end, revive


@pytest.mark.parametrize("kind", [DataError, HardwareError, CheckpointError, TrainingError, LaunchError, Stopped])
def test_an_error_keeps_its_kind_and_exit_code(kind: type[AxoError]) -> None:
    error = revive({"exit_code": kind.exit_code, "message": "what happened", "hint": None})
    assert type(error) is kind and error.message == "what happened"


def test_findings_keep_their_keys() -> None:
    finding = {"key": "lora_r", "message": "what", "hint": "do this", "file": None, "line": None}
    error = revive({"exit_code": 2, "message": "", "hint": None, "findings": [finding]})
    assert isinstance(error, RecipeError) and error.findings == (Finding("lora_r", "what", "do this"),)


GLOO = "Traceback (most recent call last):\nRuntimeError: [/gloo/transport/tcp/pair.cc:538] Connection closed by peer"
STORE = "Traceback ...\ntorch.distributed.DistNetworkError: failed to recv, got 0 bytes"
KINDS: list[tuple[Kind, int, int | None, str]] = [
    ("done", 0, None, ""),
    ("stopped", 75, 75, ""),
    ("cut", -15, None, ""),
    ("cut", -2, None, ""),
    ("killed", -9, None, ""),
    ("killed", -11, None, ""),
    ("error", 3, 3, ""),
    ("lost", 1, None, GLOO),
    ("lost", 1, None, STORE),
    ("lost", -6, None, ""),
    ("bug", 1, None, "Traceback ...\nKeyError: 'key'"),
    ("bug", 1, None, ""),
]


@pytest.mark.parametrize(("kind", "code", "reported", "trace"), KINDS)
def test_what_an_end_may_be_for_the_run(kind: Kind, code: int, reported: int | None, trace: str) -> None:
    report = None if reported is None else {"exit_code": reported, "message": "", "hint": None}
    assert End(0, "a", code, report=report, trace=trace).kind == kind


def test_an_end_is_read_with_the_place_report_and_traceback_of_that_rank_only(tmp_path: Path) -> None:
    for rank in (2, 3):
        (tmp_path / f"mark-{rank:05d}.txt").write_text(f"1{rank} update".ljust(48))
        (tmp_path / f"error-{rank:05d}.json").write_text(json.dumps({"exit_code": rank}))
    (tmp_path / "traceback-00003.txt").write_text("what")
    end = read_end(tmp_path, rank=3, host="b", exit_code=5)
    assert end == End(3, "b", 5, "step 13 (update)", {"exit_code": 3}, "what")
    assert read_end(tmp_path, rank=4, host="b", exit_code=-9) == End(4, "b", -9)


def test_a_death_names_worker_cause_host_and_place() -> None:
    assert describe_death(End(1, "b", -9, "step 13 (update)")) == (
        "worker 1 died with signal 9 (SIGKILL) on host b, in step 13 (update)"
    )
    assert describe_death(End(1, "b", 1)) == "worker 1 died with exit code 1 on host b, before its first step"
    lost = End(1, "b", 1, "step 2 (counts)", trace=GLOO)
    assert describe_death(lost) == (
        "worker 1 lost its connection to the others on host b, in step 2 (counts): "
        "RuntimeError: [/gloo/transport/tcp/pair.cc:538] Connection closed by peer"
    )
