"""What a worker left when it ended, and the error that a user sees of it."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from axo.errors import (
    ANOTHER_FAILED,
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

Kind = Literal["done", "stopped", "cut", "lost", "bug", "error", "killed"]
LOST_CONNECTION = (
    "connection closed by peer", "connection reset by peer", "connection refused", "broken pipe", "timed out",
    "timeout caused pair closure", ANOTHER_FAILED,
    "gloo", "nccl", "distbackenderror", "distnetworkerror", "diststoreerror", "distributed store",
)  # fmt: skip
"""Words in what torch.distributed raises where another rank is gone: `[.../gloo/transport/tcp/pair.cc:538] Connection
closed by peer`, `NCCL error: remote process exited`, and those of the store that workers share."""


@dataclass(frozen=True)
class End:
    """How one worker process ended."""

    rank: int
    host: str
    exit_code: int
    place: str = ""
    """Where it was last seen, such as `step 12 (update)`; empty: nowhere yet."""
    report: dict[str, Any] | None = None
    """Its AxoError, as the worker wrote it."""
    trace: str = ""
    """Traceback of any other exception."""

    @property
    def kind(self) -> Kind:
        """`stopped` has saved; `cut` was told to stop before it could; `lost` misses another one."""
        if self.report is not None:
            return "stopped" if self.report["exit_code"] == Stopped.exit_code else "error"
        if self.exit_code in (0, -signal.SIGTERM, -signal.SIGINT):
            return "done" if self.exit_code == 0 else "cut"
        if self.exit_code < 0 and self.exit_code != -signal.SIGABRT:  # libraries abort where they lose a connection
            return "killed"
        said = last_line(self.trace).lower()
        lost = self.exit_code < 0 or any(words in said for words in LOST_CONNECTION)
        return "lost" if lost else "bug"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_end(folder: Path, *, rank: int, host: str, exit_code: int) -> End:
    """What the worker wrote into its parent's folder before it ended."""
    report = folder / f"error-{rank:05d}.json"
    trace = folder / f"traceback-{rank:05d}.txt"
    return End(
        rank=rank,
        host=host,
        exit_code=exit_code,
        place=place_of(folder, rank),
        report=json.loads(report.read_text()) if report.exists() else None,
        trace=trace.read_text() if trace.exists() else "",
    )


def read_mark(folder: Path, rank: int) -> tuple[int, str] | None:
    """Step and phase that the worker wrote last (axo/train/hang.py); None: it has not got there yet."""
    try:
        step, _, phase = (folder / f"mark-{rank:05d}.txt").read_text().strip().partition(" ")
        return int(step), phase
    except (OSError, ValueError):
        return None


def place_of(folder: Path, rank: int) -> str:
    mark = read_mark(folder, rank)
    return "" if mark is None else f"step {mark[0]} ({mark[1]})"


def describe_death(end: End) -> str:
    """Who died, of what, where."""
    if end.exit_code < 0:
        cause = f"died with signal {-end.exit_code} ({signal.Signals(-end.exit_code).name})"
    elif end.kind == "lost":
        cause = "lost its connection to the others"
    else:
        cause = f"died with exit code {end.exit_code}"
    where = f"in {end.place}" if end.place else "before its first step"
    said = f": {last_line(end.trace)}" if end.kind == "lost" and end.trace else ""
    return f"worker {end.rank} {cause} on host {end.host}, {where}{said}"


def last_line(trace: str) -> str:
    """What an exception says, of its traceback."""
    return trace.strip().rpartition("\n")[2]


def revive(report: dict[str, Any]) -> AxoError:
    """The error that a report was made of."""
    for kind in (DataError, HardwareError, CheckpointError, TrainingError, LaunchError, Stopped):
        if kind.exit_code == report["exit_code"]:
            return kind(report["message"], report["hint"])
    if report["exit_code"] == RecipeError.exit_code:
        return RecipeError([Finding(**finding) for finding in report["findings"]])
    error = AxoError(report["message"], report["hint"])
    error.exit_code = report["exit_code"]
    return error


def report_of(error: AxoError) -> dict[str, Any]:
    """An error of the parent in the form that workers write theirs."""
    return {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
