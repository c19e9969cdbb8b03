"""Checkpoints: written whole or not at all, proved by a manifest, found again, pruned."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError

from axo.engines.base import Engine
from axo.errors import CheckpointError
from axo.log import LOG
from axo.train.events import Progress
from axo.train.rng import load_rng, save_rng

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STATE = "train_state.json"
ENGINE_FOLDER = "engine"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, in its output_dir."""

    root: Path
    engine: Engine
    save_total_limit: int
    facts: dict[str, Any]
    """What the manifest records of the run: trajectory, world size, threads, versions."""
    write_model: Callable[[Path], None]
    """Writes what others can load beside the state (adapter, tokenizer); called on all ranks, rank 0 writes."""

    def save(self, progress: Progress, *, keep_all: bool = False) -> Path:
        """Write checkpoint-<step>: temporary folder, fsync, manifest, rename, prune. All ranks call it.

        `keep_all`: no other checkpoint is removed for it. The best so far (`progress.saved_best`) never is.
        Raises CheckpointError where the disk refuses; what was saved before is untouched."""
        target = self.folder(progress.step)
        draft = self.root / f".{target.name}.writing"
        with disk_must_take(target):
            self._write(draft, target, progress, keep_all=keep_all)
        return target

    def _write(self, draft: Path, target: Path, progress: Progress, *, keep_all: bool) -> None:
        rank, is_writer = self.engine.layout.rank, self.engine.layout.rank == 0
        if is_writer:
            shutil.rmtree(draft, ignore_errors=True)
            (draft / ENGINE_FOLDER).mkdir(parents=True)
        self._barrier()
        self.engine.save_state(draft / ENGINE_FOLDER)
        save_rng(draft / f"rng-{rank:05d}.safetensors", device=self.engine.device)
        self._barrier()
        self.write_model(draft)
        if is_writer:
            (draft / STATE).write_text(json.dumps(progress.to_json()))
            write_manifest(draft, {"step": progress.step, **self.facts})
            _replace(draft, target)
            if not keep_all:
                best = None if progress.saved_best is None else self.folder(progress.saved_best.step)
                prune(target, keep=self.save_total_limit, best=best)
        self._barrier()

    def load(self, folder: Path) -> Progress:
        """Put weights, optimizer, random states and position of a verified checkpoint back."""
        self._compare_threads(read_manifest(folder).get("threads"), folder)
        self.engine.load_state(folder / ENGINE_FOLDER)
        load_rng(folder / f"rng-{self.engine.layout.rank:05d}.safetensors", device=self.engine.device)
        return Progress.from_json(json.loads((folder / STATE).read_text()))

    def take_weights(self, step: int) -> None:
        """Put back the weights that were saved after a step. Raises CheckpointError where they are gone or damaged."""
        folder = self.folder(step)
        try:
            verify(folder)
        except CheckpointError as error:
            raise CheckpointError(
                f"the best checkpoint cannot be taken up again: {error.message}",
                "set load_best_model_at_end: false and run the same command to end with the last weights",
            ) from error
        self.engine.load_state(folder / ENGINE_FOLDER)

    def folder(self, step: int) -> Path:
        """Where the state after a step is saved."""
        return self.root / f"checkpoint-{step}"

    def _compare_threads(self, then: int | None, folder: Path) -> None:
        """A CPU adds up in another order with another number of threads; on a GPU they compute nothing."""
        now = self.facts.get("threads")
        if (
            self.engine.device.type == "cpu"
            and self.engine.layout.rank == 0
            and None not in (then, now)
            and then != now
        ):
            LOG.warning(
                "%s was computed with %d CPU threads, this run has %d: results may differ in the last bits from an "
                "unbroken run (OMP_NUM_THREADS sets them)",
                folder,
                then,
                now,
            )

    def _barrier(self) -> None:
        self.engine.gather([0.0])


@contextmanager
def disk_must_take(target: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises, in Python or in safetensors, into a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{target} could not be written: {error}",
            "the checkpoints saved before are whole; free space or fix the folder, then run the same command",
        ) from error


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Record size and xxh3-128 of every file of `folder`, each forced to the disk."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files[path.relative_to(folder).as_posix()] = _fingerprint(path)
        _fsync(path)
    manifest = {"format_version": FORMAT_VERSION, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    _fsync(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises CheckpointError where it is missing or unreadable."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format_version {manifest.get('format_version')}, this axo reads {FORMAT_VERSION}"
        )
    return manifest


def verify(folder: Path) -> None:
    """Compare every file with the manifest. Raises CheckpointError naming the first that differs."""
    for name, recorded in read_manifest(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder}: {name} is missing")
        if path.stat().st_size != recorded["size"]:
            raise CheckpointError(f"{folder}: {name} has {path.stat().st_size} bytes, saved were {recorded['size']}")
        if _fingerprint(path) != recorded:
            raise CheckpointError(f"{folder}: {name} was changed after it was saved")


def step_of(folder: Path) -> int:
    """The step that a checkpoint was saved after."""
    return int(read_manifest(folder)["step"])


def newest(root: Path) -> Path | None:
    """The newest whole checkpoint; damaged ones are named and passed over."""
    for folder in reversed(_all(root)):
        try:
            verify(folder)
        except CheckpointError as error:
            LOG.warning("passing over a damaged checkpoint: %s", error.message)
            continue
        return folder
    return None


def prune(saved: Path, *, keep: int, best: Path | None = None) -> None:
    """Keep the checkpoint just saved, the best one, and the newest others up to `keep`.

    A newer one may stand there that was passed over as damaged: it must not cost the one just saved."""
    found = _all(saved.parent)
    others = [folder for folder in found if folder not in (saved, best)]
    room = max(0, keep - (len(found) - len(others)))
    for folder in others[: max(0, len(others) - room)]:
        _set_aside(folder)
    clear_leftovers(saved.parent)


def clear_leftovers(root: Path) -> None:
    """Remove what saves and removals left that were cut off, and what was set aside."""
    for leftover in root.glob(".checkpoint-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _all(root: Path) -> list[Path]:
    numbered = [(int(match[1]), path) for path in root.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def _replace(draft: Path, target: Path) -> None:
    """Rename the draft; a damaged folder of that name goes away first."""
    if target.exists():
        _set_aside(target)
    for inner in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
        _fsync(inner)
    draft.rename(target)
    _fsync(target.parent)


def _set_aside(folder: Path) -> None:
    """Hide a checkpoint before it is removed, so that half of one never looks like one."""
    aside = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(aside, ignore_errors=True)  # left by a removal that was cut off
    folder.rename(aside)


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return {"size": path.stat().st_size, "xxh3_128": digest.hexdigest()}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    draft = path.with_name(f".{path.name}.writing")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)
