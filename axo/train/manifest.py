"""The manifest of a checkpoint: size and xxh3-128 of every file, by which a damaged one is found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from axo.errors import CheckpointError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
Fingerprints = dict[str, dict[str, Any]]
"""Path in the folder -> size and hash."""


def fingerprints(folder: Path, paths: Iterable[Path]) -> Fingerprints:
    """Size and hash of files in `folder`, each forced to the disk: called by the rank that wrote them."""
    found: Fingerprints = {}
    for path in paths:
        found[path.relative_to(folder).as_posix()] = _fingerprint(path)
        fsync(path)
    return found


def write_manifest(folder: Path, facts: Mapping[str, Any], *, known: Mapping[str, Any] | None = None) -> None:
    """Record every file of `folder`: those of `known` as their writers saw them, the others as they lie there."""
    known = known or {}
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    lost = sorted(set(known) - set(there))
    if lost:
        raise CheckpointError(
            f"{folder}: {lost[0]} was written by another host and is not seen here",
            "output_dir must lie on a file system that all nodes share",
        )
    files = {**fingerprints(folder, (there[name] for name in sorted(set(there) - set(known)))), **known}
    manifest = {"format_version": FORMAT_VERSION, **facts, "files": dict(sorted(files.items()))}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    fsync(folder / MANIFEST)


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


def fsync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return {"size": path.stat().st_size, "xxh3_128": digest.hexdigest()}
