"""What all ranks do together where one may fail: an error of one ends as an error of all, in seconds."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from axo.engines.base import Engine
from axo.errors import ANOTHER_FAILED, AxoError, CheckpointError

_DISK = ("PytorchStreamWriter", "unexpected pos", "iostream")
"""What stands in torch's RuntimeError when torch.save meets a full disk."""


T = TypeVar("T")


def together(engine: Engine, work: Callable[[], T], *, target: Path) -> T:
    """Do `work` on this rank, as all others do, and wait for them. `work` may hold collectives only where no rank can
    fail in front of one.

    Raises CheckpointError on every rank where one could not write `target`, naming its host and rank."""
    result, error = None, None
    try:
        with disk_must_take(target):
            result = work()
    except Exception as caught:
        error = caught
    kind = 0.0 if error is None else 1.0 if isinstance(error, AxoError) else 2.0
    kinds = [row[0] for row in engine.gather([kind])]
    failed = [rank for rank, bad in enumerate(kinds) if bad]
    if not failed:
        return result  # type: ignore[return-value]
    if 2.0 in kinds:  # no fault of a disk: the worker's parent tells it with its traceback
        raise error or RuntimeError(f"{ANOTHER_FAILED} ({kinds.index(2.0)})")
    layout = engine.layout
    if layout.world_size == 1:
        assert error is not None
        raise error
    message, hint = _said(error)
    said = f"rank {layout.rank} on host {socket.gethostname()}: {message}"
    first, advice = gather_texts(engine, f"{said}\0{hint}")[failed[0]].split("\0")
    if error is not None and not isinstance(error, CheckpointError):
        raise error
    more = f" (and {len(failed) - 1} ranks more)" if len(failed) > 1 else ""
    raise CheckpointError(f"{first}{more}", advice or None) from error


def _said(error: Exception | None) -> tuple[str, str]:
    """Message and hint."""
    if isinstance(error, AxoError):
        return error.message, error.hint or ""
    return repr(error), ""


def gather_texts(engine: Engine, text: str) -> list[str]:
    """The text of every rank, through the engine's one collective."""
    mine = text.encode()
    longest = int(max(row[0] for row in engine.gather([float(len(mine))])))
    rows = engine.gather([float(len(mine)), *map(float, mine), *[0.0] * (longest - len(mine))])
    return [bytes(int(value) for value in row[1 : 1 + int(row[0])]).decode() for row in rows]


@contextmanager
def disk_must_take(target: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises, in Python, safetensors or torch, into a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _DISK):
            raise
        raise CheckpointError(
            f"{target} could not be written: {error}",
            "the checkpoints saved before are whole; free space or fix the folder, then run the same command",
        ) from error
