"""SIGTERM and SIGINT ask for a stop after the current step; a second one ends the run at once.

Before there are steps, one is enough."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from axo.errors import Stopped

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


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """A signal ends the block with Stopped, unless somebody around it handles signals already.

    Gives a function to be called before work that listens by itself begins: imports of some libraries swallow the
    interrupt, and it raises it again."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)
        raise KeyboardInterrupt  # no AxoError: those are caught and explained on their way

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    own = [number for number in SIGNALS if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)]
    former = {number: signal.signal(number, on_signal) for number in own}
    try:
        yield check
    except KeyboardInterrupt:
        if not own:
            raise
        message = "stopped before the first step: nothing was saved"
        raise Stopped(message, "the same command starts again, from the last checkpoint if there is one") from None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
