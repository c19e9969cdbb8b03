"""metrics.jsonl: one JSON object a step, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from axo.train.events import StepEnd
from axo.train.together import disk_must_take


class MetricsFile:
    """Appends a line a step; evaluation results of a step stand on its line as eval_*. CheckpointError where the disk
    takes no more."""

    def __init__(self, path: Path, *, step: int) -> None:
        self._path = path
        with disk_must_take(path):
            cut_back(path, step=step)
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def after_step(self, end: StepEnd) -> None:
        with disk_must_take(self._path):
            self._file.write(json.dumps({**end.metrics.values(), **end.evaluation}) + "\n")

    def close(self) -> None:
        with suppress(OSError):  # what the disk did not take was told before
            self._file.close()


def cut_back(path: Path, *, step: int) -> None:
    """Keep the lines of the first `step` steps; what follows, or a line that was damaged, goes."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or _step_of(line) > step:
            break
        kept.append(line)
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(kept), encoding="utf-8")
    draft.replace(path)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
