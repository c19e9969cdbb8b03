"""What workers left when they failed, as the error that a user sees."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from axo.log import LOG

_KILLED = frozenset(-number for number in signal.Signals if number != signal.SIGTERM)
"""Exit codes of workers that a signal ended, but for the one that the agent sends to the others then."""


def error_of_workers(folder: Path) -> AxoError | None:
    """The error that a worker wrote, the most telling first: a cause before the stop that it led to."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    if not reports:
        return None
    report = min(reports, key=lambda report: (report["exit_code"] == Stopped.exit_code, report["rank"]))
    return _revive(report)


def _revive(report: dict[str, Any]) -> AxoError:
    for kind in (DataError, HardwareError, CheckpointError, TrainingError, LaunchError, Stopped):
        if kind.exit_code == report["exit_code"]:
            return kind(report["message"], report["hint"])
    if report["exit_code"] == RecipeError.exit_code:
        return RecipeError([Finding(**finding) for finding in report["findings"]])
    error = AxoError(report["message"], report["hint"])
    error.exit_code = report["exit_code"]
    return error


def death(failures: Mapping[int, Any], folder: Path) -> LaunchError:
    """The worker that died first; one that was killed is what the others died of, whoever was seen first."""
    killed = {rank: failure for rank, failure in failures.items() if failure.exitcode in _KILLED}
    rank, failure = min((killed or failures).items(), key=lambda item: item[1].timestamp)
    trace = folder / f"traceback-{rank:05d}.txt"
    if trace.exists():
        LOG.error("%s", trace.read_text())
    cause = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return LaunchError(
        f"worker {rank} died with {cause}",
        "its messages stand above; run the same command to go on from the last checkpoint",
    )
