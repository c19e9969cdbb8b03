"""A folder that is there whole or not at all, and never takes the place of something else than a former merge."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axo.errors import CheckpointError

MARKER = "axo_merge.json"
"""Written into every merge: what it was made from. A folder that holds it may be replaced by another merge."""


@contextmanager
def whole_folder(out: Path, *, inputs: tuple[Path, ...]) -> Iterator[Path]:
    """Gives a temporary folder beside `out` that becomes `out` when the block ends, and is removed if it fails.

    Files are handed to the system, not forced to the disk: a merge that a power failure cuts short is made again.

    Raises:
        CheckpointError: `out` holds files that are no former merge, or one of the `inputs`.
    """
    out = out.absolute()
    check_output(out, inputs=inputs)
    _remove_left_overs(out)
    made = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        made.mkdir(parents=True)
    except OSError as error:
        message = f"{out}: the folder cannot be made: {error.strerror}"
        raise CheckpointError(message, "choose another folder for the merged model") from error
    try:
        yield made
        _take_place(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def check_output(out: Path, *, inputs: tuple[Path, ...]) -> None:
    """Raises CheckpointError if `out` must not be written; see `whole_folder`."""
    for folder in inputs:
        if folder.resolve().is_relative_to(out.resolve()):
            raise CheckpointError(f"{out}: the merged model would replace {folder}", "choose another folder for it")
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: a file is in the place of the folder", "choose another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise CheckpointError(
            f"{out}: the folder is not empty and holds no former merge", "choose another folder, or empty this one"
        )


def _remove_left_overs(out: Path) -> None:
    """Temporary folders of processes that were killed."""
    for folder in (*out.parent.glob(f".{out.name}.*.tmp"), *out.parent.glob(f".{out.name}.*.old")):
        process = folder.name.split(".")[-2]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(folder)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _take_place(made: Path, out: Path) -> None:
    if not out.exists():
        made.rename(out)
        return
    former = made.with_suffix(".old")
    out.rename(former)
    made.rename(out)
    shutil.rmtree(former)
