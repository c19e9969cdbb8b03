"""What a worker leaves for its parent while it runs: where it stands, and, when asked by a signal, its Python stack."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

Mark = Callable[[int, str], None]
"""Called with the step (from 1) and the phase of it that begins."""
STACK_SIGNAL = signal.SIGUSR1
_WIDTH = 48


def no_mark(step: int, phase: str) -> None:
    """For a worker that no parent looks after."""
    del step, phase


def marks(folder: Path, rank: int) -> Mark:
    """A function that writes where this rank stands into a file: one system call, and it survives a SIGKILL."""
    descriptor = os.open(folder / f"mark-{rank:05d}.txt", os.O_WRONLY | os.O_CREAT, 0o644)

    def mark(step: int, phase: str) -> None:
        os.pwrite(descriptor, f"{step} {phase}".ljust(_WIDTH).encode(), 0)

    return mark


def answer_with_stack(folder: Path, rank: int) -> None:
    """On STACK_SIGNAL all Python stacks go to a file whose first line names the main thread.

    faulthandler does it in its signal handler in C, so also while the main thread waits in C code and holds the GIL."""
    file = (folder / f"stack-{rank:05d}.txt").open("w")
    file.write(f"{threading.get_ident():x}\n")
    file.flush()
    faulthandler.register(STACK_SIGNAL, file=file, all_threads=True, chain=False)
