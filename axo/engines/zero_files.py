"""What DeepSpeed writes into a checkpoint, where the disk of one rank may be full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def raising_behind(engine: Any) -> Iterator[None]:
    """All ranks wait for each other at the end of DeepSpeedEngine.save_checkpoint: one that cannot write goes there
    too, and raises its first error behind it. (The methods of this one engine are set, and given back.)"""
    errors: list[Exception] = []
    files = engine.checkpoint_engine
    guarded = [(files, "save"), (engine, "_copy_recovery_script")]
    for owner, name in guarded:
        setattr(owner, name, partial(_try, getattr(owner, name), errors))
    try:
        yield
    finally:
        for owner, name in guarded:
            delattr(owner, name)
    if errors:
        raise errors[0]


def _try(write: Callable[..., Any], errors: list[Exception], *args: Any, **kwargs: Any) -> Any:
    try:
        return write(*args, **kwargs)
    except (OSError, RuntimeError) as error:  # torch.save raises a RuntimeError
        errors.append(error)
