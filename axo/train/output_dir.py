"""The folder of a run: who may write into it, and whether the run there goes on, starts or is refused."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from axo.errors import CheckpointError
from axo.train import checkpoint

RUN = "run.json"
METRICS = "metrics.jsonl"
LOCK = ".lock"
NEUTRAL_KEYS = frozenset(
    {
        "output_dir", "fallbacks", "dataset_prepared_path", "ddp_timeout",
        "save_strategy", "save_steps", "saves_per_epoch", "save_total_limit", "resume_from_checkpoint",
        "auto_resume_from_checkpoints", "eval_strategy", "eval_steps", "evals_per_epoch", "eval_batch_size",
        "eval_sample_packing", "test_datasets", "logging_steps", "use_tensorboard", "use_wandb", "wandb_project",
        "wandb_entity", "wandb_name", "wandb_run_id", "wandb_mode", "lora_model_dir",
        "datasets",
    }
)  # fmt: skip
"""Keys that do not change what is trained; `datasets` stands in the trajectory as the hash of its content."""


@dataclass(frozen=True)
class Start:
    """How a run begins."""

    kind: Literal["new", "resume", "finished"]
    checkpoint: Path | None = None


@contextmanager
def locked(output_dir: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises CheckpointError where another run has it."""
    with _open_lock(output_dir) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(
                f"{output_dir} is in use by another axo run", "wait for it, stop it, or choose another output_dir"
            ) from error
        yield


def _open_lock(output_dir: Path) -> TextIO:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        return (output_dir / LOCK).open("w")
    except OSError as error:
        raise CheckpointError(
            f"output_dir {output_dir} cannot be written to: {error.strerror}", "choose another output_dir"
        ) from error


def decide_start(
    output_dir: Path, *, trajectory: Mapping[str, Any], auto_resume: bool | None, resume_from: str | None, fresh: bool
) -> Start:
    """New run, resume or nothing to do. An unfinished run of the same trajectory goes on by itself.

    Raises CheckpointError where the folder or the named checkpoint holds another run, or no whole checkpoint."""
    if resume_from is not None:
        return Start("resume", _named_checkpoint(Path(resume_from), trajectory))
    former = _read(output_dir)
    if fresh or former is None:
        if fresh:
            _clear(output_dir)
        return Start("new")
    _check_same(former["trajectory"], trajectory, what=str(output_dir))
    if former["status"] == "finished":
        return Start("finished")
    latest = checkpoint.newest(output_dir)
    if auto_resume is False:
        raise CheckpointError(
            f"{output_dir} holds an unfinished run and auto_resume_from_checkpoints is false",
            "leave the key out to go on with it, choose another output_dir, or start over with --fresh",
        )
    return Start("new") if latest is None else Start("resume", latest)


def record(output_dir: Path, *, trajectory: Mapping[str, Any], status: Literal["running", "finished"]) -> None:
    """Write run.json, whole or not at all."""
    checkpoint.write_json(output_dir / RUN, {"status": status, "trajectory": dict(trajectory)})


def trajectory_of(keys: Mapping[str, Any], *, data_key: str, packs_per_step: int) -> dict[str, Any]:
    """What two parts of one run must share: every key that changes a weight, the data and the global batch."""
    kept = {key: value for key, value in keys.items() if key not in NEUTRAL_KEYS}
    return {**json.loads(json.dumps(kept)), "prepared_data": data_key, "rows_a_step": packs_per_step}


def _named_checkpoint(folder: Path, trajectory: Mapping[str, Any]) -> Path:
    checkpoint.verify(folder)
    _check_same(checkpoint.read_manifest(folder)["trajectory"], trajectory, what=str(folder))
    return folder


def _read(output_dir: Path) -> dict[str, Any] | None:
    path = output_dir / RUN
    if path.exists():
        return json.loads(path.read_text())
    strangers = sorted(entry.name for entry in output_dir.glob("*") if not entry.name.startswith("."))
    if strangers:
        raise CheckpointError(
            f"{output_dir} is not empty and holds no axo run ({', '.join(strangers[:3])})",
            "choose another output_dir, or empty this one",
        )
    return None


def _check_same(former: Mapping[str, Any], now: Mapping[str, Any], *, what: str) -> None:
    differences = [
        f"  {key}: {former.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*former, *now})
        if former.get(key) != now.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"{what} holds another run; these keys differ:\n" + "\n".join(differences),
            "put the keys back to resume it, choose another output_dir, or start over with --fresh",
        )


def _clear(output_dir: Path) -> None:
    for entry in output_dir.glob("*"):
        if entry.name == LOCK:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
