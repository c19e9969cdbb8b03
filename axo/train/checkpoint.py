"""Checkpoints: written whole or not at all, proved by a manifest, found again, pruned."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from axo.engines.base import Engine
from axo.engines.shards import FOLDER
from axo.errors import CheckpointError
from axo.log import LOG
from axo.plan.words import amount
from axo.train.events import Progress
from axo.train.manifest import Fingerprints, fingerprints, fsync, read_manifest, verify, write_manifest
from axo.train.rng import load_rng, save_rng, seed_rng
from axo.train.together import gather_texts, together

STATE = "train_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_RNG = "rng-{rank:05d}.safetensors"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, in its output_dir."""

    root: Path
    engine: Engine
    save_total_limit: int
    facts: dict[str, Any]
    """What the manifest records of the run: trajectory, world size, threads, versions."""
    write_model: Callable[[Path], list[Path] | None]
    """Writes what others can load beside the state (adapter, tokenizer); called on all ranks, of which rank 0 writes or
    each: then it gives the files that this rank wrote."""

    def save(self, progress: Progress, *, keep_all: bool = False) -> Path:
        """Write checkpoint-<step>: temporary folder, fsync, manifest, rename, prune. All ranks call it.

        `keep_all`: no other checkpoint is removed for it. The best so far (`progress.saved_best`) never is.
        Raises CheckpointError where the disk refuses; what was saved before is untouched."""
        target = self.folder(progress.step)
        draft = self.root / f".{target.name}.writing"
        together(self.engine, lambda: self._begin(draft), target=target)
        mine = together(self.engine, lambda: self._write_state(draft), target=target)
        mine |= together(self.engine, lambda: fingerprints(draft, self.write_model(draft) or ()), target=target)
        known: Fingerprints = {}
        for text in gather_texts(self.engine, json.dumps(mine)):
            known |= json.loads(text)
        together(self.engine, lambda: self._end(draft, target, progress, known, keep_all=keep_all), target=target)
        return target

    def _begin(self, draft: Path) -> None:
        if self._is_writer:
            shutil.rmtree(draft, ignore_errors=True)
            (draft / FOLDER).mkdir(parents=True)

    def _write_state(self, draft: Path) -> Fingerprints:
        """This rank's files, and what they are: no other rank reads them back."""
        rng = draft / _RNG.format(rank=self.engine.layout.rank)
        written = self.engine.save_state(draft / FOLDER)
        save_rng(rng, device=self.engine.device)
        return fingerprints(draft, [*(written or ()), rng])

    def _end(self, draft: Path, target: Path, progress: Progress, known: Fingerprints, *, keep_all: bool) -> None:
        if not self._is_writer:
            return
        (draft / STATE).write_text(json.dumps(progress.to_json()))
        write_manifest(draft, {"step": progress.step, **self.facts}, known=known)
        _replace(draft, target)
        if not keep_all:
            best = None if progress.saved_best is None else self.folder(progress.saved_best.step)
            prune(target, keep=self.save_total_limit, best=best)

    @property
    def _is_writer(self) -> bool:
        return self.engine.layout.rank == 0

    def load(self, folder: Path) -> Progress:
        """Put weights, optimizer, random states and position of a verified checkpoint back.

        Ranks that the checkpoint does not know draw from states of their own."""
        manifest = read_manifest(folder)
        self._compare_threads(manifest.get("threads"), folder)
        progress = Progress.from_json(json.loads((folder / STATE).read_text()))
        self.engine.load_state(folder / FOLDER)
        rank, now = self.engine.layout.rank, self.engine.layout.world_size
        then = manifest.get("world_size", now)
        if rank < then:
            load_rng(folder / _RNG.format(rank=rank), device=self.engine.device)
        else:
            seed_rng(torch.initial_seed() + progress.step)
        if then != now and self._is_writer:
            workers, new = amount(then, "worker"), _new_ranks(then, now)
            LOG.info("%s was saved by %s, this run has %d%s", folder, workers, now, new)
        return progress

    def take_weights(self, step: int) -> None:
        """Put back the weights that were saved after a step. Raises CheckpointError where they are gone or damaged."""
        folder = self.folder(step)
        together(self.engine, lambda: self._check_best(folder), target=folder)
        self.engine.load_state(folder / FOLDER)

    def _check_best(self, folder: Path) -> None:
        try:
            if self._is_writer:
                verify(folder)
        except CheckpointError as error:
            raise CheckpointError(
                f"the best checkpoint cannot be taken up again: {error.message}",
                "set load_best_model_at_end: false and run the same command to end with the last weights",
            ) from error

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


def _new_ranks(then: int, now: int) -> str:
    return f"; the random states of rank {then} and above are new" if now > then else ""


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
        fsync(inner)
    draft.rename(target)
    fsync(target.parent)


def _set_aside(folder: Path) -> None:
    """Hide a checkpoint before it is removed, so that half of one never looks like one."""
    aside = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(aside, ignore_errors=True)  # left by a removal that was cut off
    folder.rename(aside)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    draft = path.with_name(f".{path.name}.writing")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)
