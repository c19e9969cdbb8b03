"""The folder of a sweep: which numbers its runs have, and what they reached."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError
from axo.recipe.sweep import Combination, describe
from axo.train import output_dir
from axo.train.checkpoint import write_json

SWEEP = "sweep.json"
"""Name of a run's folder -> its settings."""


def claim(folder: Path, combinations: Sequence[Combination]) -> None:
    """Write sweep.json. Raises CheckpointError where a run there has other settings than its number says now."""
    if (folder / output_dir.RUN).exists():
        message = f"{folder} holds the run of a single recipe"
        raise CheckpointError(message, "give the sweep an output_dir of its own")
    settings: dict[str, dict[str, Any]] = json.loads(json.dumps({one.name: dict(one.settings) for one in combinations}))
    former = _former(folder / SWEEP)
    differences = [
        f"  {name}: {_told(former.get(name))} there, {_told(settings.get(name))} now"
        for name in (run.name for run in _runs(folder))
        if former.get(name) != settings.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{folder} holds runs of another sweep; their settings differ:\n" + "\n".join(differences),
            "put the sweep file back to go on with it, choose another output_dir, or start over with --fresh",
        )
    write_json(folder / SWEEP, {"runs": settings})


def clear(folder: Path, *, inputs: Sequence[Mapping[str, str]]) -> None:
    """Remove every run of a former sweep, also those that a new one has no number for.

    `inputs` are what the new runs read, by recipe key. Raises CheckpointError where one of them would be removed."""
    runs = _runs(folder)
    for run in runs:
        for named in {tuple(named.items()) for named in inputs}:
            output_dir.check_inputs_outside(run, dict(named))
    for run in runs:
        with output_dir.locked(run):
            output_dir.clear(run)
        shutil.rmtree(run)
    (folder / SWEEP).unlink(missing_ok=True)


def is_finished(run: Path) -> bool:
    """Whether the run in a folder came to its end."""
    try:
        return json.loads((run / output_dir.RUN).read_text(encoding="utf-8"))["status"] == "finished"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def figures(run: Path) -> dict[str, Any]:
    """Step and loss of the last line of metrics.jsonl, and the last eval_loss in it."""
    found: dict[str, Any] = {}
    try:
        lines = (run / output_dir.METRICS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            metrics = json.loads(line)
        except ValueError:  # cut off while it was written
            continue
        found |= {key: metrics[key] for key in ("step", "loss", "eval_loss") if key in metrics}
    return found


def _runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"sweep[0-9][0-9][0-9][0-9]/{output_dir.RUN}"))


def _former(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "choose another output_dir, or start over with --fresh"
        raise CheckpointError(f"{path} cannot be read: {error}", hint) from error


def _told(settings: Mapping[str, Any] | None) -> str:
    return "no run" if settings is None else describe(settings)
