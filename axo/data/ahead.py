"""Reading ahead: the next item of an iterator is made in a thread while the one before is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """One item is made ahead, never more. What the iterator raises is raised by `take`."""

    def __init__(self, items: Iterator[T], *, cancel: Event) -> None:
        """`cancel` makes the iterator end early."""
        self._items = items
        self._cancel = cancel
        self._made: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._start()

    def take(self) -> T:
        """The next item; StopIteration at the end."""
        item, error = self._made.get()
        if error is not None:
            self._made.put((None, error))  # the same answer, however often it is asked for
            raise error
        self._start()
        return item  # pyright: ignore[reportReturnType]

    def close(self) -> None:
        """Make nothing any more."""
        self._cancel.set()
        self._thread.join(timeout=_PATIENCE_SECONDS)

    def _start(self) -> None:
        # A daemon, so that a read that never ends keeps no process alive.
        self._thread = Thread(target=self._make, name="axo-reads-ahead", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            self._made.put((next(self._items), None))
        except BaseException as error:
            self._made.put((None, error))


_PATIENCE_SECONDS = 5.0
"""How long an end waits for a read under way."""
