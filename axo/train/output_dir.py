"""The folder of a run: who may write into it, and whether the run there goes on, starts or is refused."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from axo.errors import CheckpointError
from axo.log import LOG
from axo.train import checkpoint

RUN = "run.json"
METRICS = "metrics.jsonl"
LOCK = ".lock"
NEUTRAL_KEYS = frozenset(
    {
        "output_dir", "fallbacks", "dataset_prepared_path", "ddp_timeout", "expect",
        "save_strategy", "save_steps", "saves_per_epoch", "save_total_limit", "resume_from_checkpoint",
        "auto_resume_from_checkpoints", "eval_strategy", "eval_steps", "evals_per_epoch", "eval_batch_size",
        "eval_sample_packing", "test_datasets", "logging_steps", "use_tensorboard", "use_wandb", "wandb_project",
        "wandb_entity", "wandb_name", "wandb_run_id", "wandb_mode",
        "datasets", "dataset_num_proc", "eval_sequence_len", "max_lost_tokens",
        "loss_watchdog_threshold", "loss_watchdog_patience", "early_stopping_patience", "metric_for_best_model",
        "greater_is_better", "load_best_model_at_end",
        "world_size", "max_restarts", "hang_timeout", "dp_shard_size", "dp_replicate_size", "fsdp", "fsdp_version",
        "fsdp_config", "fsdp_final_state_dict_type", "ddp_find_unused_parameters",
    }
)  # fmt: skip
"""Keys that do not change what is trained; `datasets` stands in the trajectory as the hash of its content, and number
formats of FSDP's own as `fsdp_precision`."""
WORKERS = frozenset({"workers", "engine"})
"""Who computes: ddp and fsdp go on from each other's checkpoints on any number of workers, DeepSpeed from its own."""
SHARES = frozenset({"micro_batch_size", "gradient_accumulation_steps", "batch_size"})
"""How the rows of a step are shared out: on other workers in another way, as long as `rows_a_step` stays."""


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
        except BlockingIOError as error:
            raise CheckpointError(
                f"{output_dir} is in use by another axo run", "wait for it, stop it, or choose another output_dir"
            ) from error
        except OSError as error:  # such as Lustre mounted without -o flock
            LOG.warning(
                "%s lies on a file system without locks (%s): nothing keeps a second run out of it",
                output_dir, error.strerror,
            )  # fmt: skip
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
    output_dir: Path,
    *,
    trajectory: Mapping[str, Any],
    auto_resume: bool | None,
    resume_from: str | None,
    fresh: bool,
    own: Collection[Path] = (),
) -> Start:
    """New run, resume or nothing to do. An unfinished run of the same trajectory goes on by itself; a run that was
    started from a named checkpoint goes on from its own newest one. `own` are paths in the folder that are no
    strangers.

    Raises CheckpointError where the folder or the named checkpoint holds another run, or no whole checkpoint."""
    former = None if fresh else _read(output_dir, own=own)
    if former is not None and former["status"] == "running" and _is_untouched(output_dir):
        former = None  # it failed before its first step
    if former is None:
        return Start("new") if resume_from is None else Start("resume", _named_checkpoint(resume_from, trajectory))
    _check_same(former["trajectory"], trajectory, what=str(output_dir))
    if former["status"] == "finished":
        return Start("finished")
    latest = checkpoint.newest(output_dir)
    if resume_from is not None and resume_from != former.get("resumed_from"):
        return Start("resume", _not_passed(_named_checkpoint(resume_from, trajectory), latest))
    if auto_resume is False:
        raise CheckpointError(
            f"{output_dir} holds an unfinished run and auto_resume_from_checkpoints is false",
            "leave the key out to go on with it, choose another output_dir, or start over with --fresh",
        )
    if latest is None and resume_from is not None:
        return Start("resume", _named_checkpoint(resume_from, trajectory))
    return Start("new") if latest is None else Start("resume", latest)


def check_inputs_outside(output_dir: Path, inputs: Mapping[str, str]) -> None:
    """Raise CheckpointError where starting over would remove what the run needs: `inputs` are paths by recipe key."""
    folder = output_dir.resolve()
    for key, name in inputs.items():
        if Path(name).exists() and folder in (Path(name).resolve(), *Path(name).resolve().parents):
            raise CheckpointError(
                f"--fresh would remove {name} ({key}), which lies in output_dir {output_dir}",
                "choose another output_dir, or move it out first",
            )


def record(
    output_dir: Path,
    *,
    trajectory: Mapping[str, Any],
    status: Literal["running", "finished"],
    resumed_from: str | None = None,
) -> None:
    """Write run.json, whole or not at all. `resumed_from` is the checkpoint that the recipe names, if it does."""
    content = {"status": status, "trajectory": dict(trajectory), "resumed_from": resumed_from}
    checkpoint.write_json(output_dir / RUN, content)


def read_trajectory(output_dir: Path) -> dict[str, Any] | None:
    """The trajectory of the run in the folder, or None where there is no run."""
    path = output_dir / RUN
    return _read_run(path)["trajectory"] if path.exists() else None


def trajectory_of(keys: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What two parts of one run must share: every key that changes a weight, and `facts` that no key says (hashes of
    data and base model, workers, number formats)."""
    kept = {key: value for key, value in keys.items() if key not in NEUTRAL_KEYS}
    return {**json.loads(json.dumps(kept)), **facts}


def _is_untouched(output_dir: Path) -> bool:
    """Whether no step of the run there was ever finished."""
    return not (output_dir / METRICS).exists() and not any(output_dir.glob("checkpoint-*"))


def _not_passed(named: Path, latest: Path | None) -> Path:
    """The named checkpoint, unless the folder holds a newer one that would be lost."""
    if latest is not None and checkpoint.step_of(latest) > checkpoint.step_of(named):
        raise CheckpointError(
            f"resume_from_checkpoint names {named}, but {latest} is newer",
            "leave the key out to go on from the newest, or choose another output_dir to branch off",
        )
    return named


def _named_checkpoint(name: str, trajectory: Mapping[str, Any]) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise CheckpointError(
            f"resume_from_checkpoint names {name}, and there is no such folder",
            "name a checkpoint-... folder, or leave the key out to go on from the newest one in output_dir",
        )
    checkpoint.verify(folder)
    _check_same(checkpoint.read_manifest(folder)["trajectory"], trajectory, what=str(folder))
    return folder


def _read(output_dir: Path, *, own: Collection[Path]) -> dict[str, Any] | None:
    path = output_dir / RUN
    if path.exists():
        return _read_run(path)
    known = {output_dir.resolve() / _first_below(output_dir, each) for each in own}
    entries = (entry for entry in output_dir.glob("*") if entry.resolve() not in known)
    strangers = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    if strangers:
        raise CheckpointError(
            f"{output_dir} is not empty and holds no axo run ({', '.join(strangers[:3])})",
            "choose another output_dir, or empty this one",
        )
    return None


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        return {"status": run["status"], "trajectory": run["trajectory"], "resumed_from": run.get("resumed_from")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "choose another output_dir, or start over with --fresh"
        ) from error


def _first_below(output_dir: Path, path: Path) -> Path:
    """The entry of output_dir that `path` lies in, or `path` itself where it lies elsewhere."""
    folder, place = output_dir.resolve(), path.resolve()
    return folder / place.relative_to(folder).parts[0] if place != folder and place.is_relative_to(folder) else place


def _check_same(former: Mapping[str, Any], now: Mapping[str, Any], *, what: str) -> None:
    _check_workers(former, now, what=what)
    former, now = _compared(former), _compared(now)
    free = WORKERS | SHARES if former.get("workers") != now.get("workers") else WORKERS
    differences = [
        f"  {key}: {_said(former, key)} there, {_said(now, key)} now"
        for key in sorted({*former, *now} - free)
        if former.get(key) != now.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"{what} holds another run; these keys differ:\n" + "\n".join(differences),
            "put the keys back to resume it, choose another output_dir, or start over with --fresh",
        )


def _compared(trajectory: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without keys that were told apart by an earlier axo and are not any more."""
    return {key: value for key, value in trajectory.items() if key not in NEUTRAL_KEYS}


def _check_workers(former: Mapping[str, Any], now: Mapping[str, Any], *, what: str) -> None:
    """DeepSpeed's files are read by as many workers as wrote them, under DeepSpeed."""
    before, after = former.get("engine"), now.get("engine")
    if "deepspeed" not in (before, after) or before is None:
        return
    if before != after:
        raise CheckpointError(
            f"{what} was trained by the engine {before}, this run has {after}: DeepSpeed's state is read by DeepSpeed "
            "alone, and it reads no other",
            f"go on with {before}, choose another output_dir, or start over with --fresh",
        )
    if former.get("workers") != now.get("workers"):
        raise CheckpointError(
            f"{what} was saved by {former['workers']} workers under DeepSpeed, this run has {now['workers']}: "
            "DeepSpeed goes on with the same number alone",
            f"set world_size: {former['workers']}, choose another output_dir, or start over with --fresh",
        )


def _said(trajectory: Mapping[str, Any], key: str) -> str:
    return repr(trajectory[key]) if key in trajectory else "the default"


def clear(output_dir: Path) -> None:
    """Remove a former run and what was made of it; the lock and hidden files stay."""
    for entry in output_dir.glob("*"):
        if not entry.name.startswith("."):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
