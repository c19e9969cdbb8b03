"""How much anonymous memory this process holds: what the kernel cannot drop or read again from a file."""

from __future__ import annotations

import os
from pathlib import Path

_STATM = Path("/proc/self/statm")


class AnonymousPeak:
    """The largest of the samples taken."""

    def __init__(self) -> None:
        self.peak_bytes = anonymous_bytes()

    def sample(self) -> None:
        now = anonymous_bytes()
        if now is not None and self.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes, now)


def anonymous_bytes() -> int | None:
    """Resident pages less those of files and shared memory (proc(5), statm); None where there is no /proc."""
    try:
        _, resident, shared, *_ = _STATM.read_text().split()
    except OSError:
        return None
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
