"""SIGTERM and SIGINT ask for a stop after the current step; a second one ends the run at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopFlag:
    """Raised by a signal here, or by any other rank through the step's gather.

    One of several workers may get the first signal twice, from its parent and from a batch system that sends it to
    all processes: it leaves the second one (`insist` False) to its parent."""

    def __init__(self, *, insist: bool = True) -> None:
        self.requested = False
        self._insist = insist

    @contextmanager
    def listen(self) -> Iterator[StopFlag]:
        """Handle the signals inside the block; the former handlers come back afterwards."""
        former = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested and self._insist:
            os._exit(128 + number)
        self.requested = True
