"""A process that never outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2), linux/prctl.h."""


def end_with_parent(parent: int | None = None) -> None:
    """Be killed when the parent dies; `parent` is its process number, for the case that it is dead already. Linux only,
    prctl(2); elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
