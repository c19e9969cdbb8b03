"""Batches are worked on in several processes; what they become comes back in the order of the batches."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import get_all_start_methods, get_context
from types import TracebackType
from typing import Any, Generic, TypeVar

from axo.compat.parent_death import end_with_parent
from axo.errors import DataError
from axo.log import LOG
from axo.plan.facts import cpu_count

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST = 16
"""Processes that are started unasked: one process reads the rows for all, and more would wait for it."""
AHEAD = 2
"""Batches, for each process, that are read before the first of them is done."""


def num_processes(asked: int | None) -> int:
    """How many processes work (1: this one does it alone); `asked` is dataset_num_proc, unset: the CPUs there are."""
    if "fork" not in get_all_start_methods() or sys.platform == "darwin":
        # A copy of a running process is not safe on macOS, and starting a fresh one takes seconds.
        if asked is not None and asked > 1:
            LOG.warning("dataset_num_proc: %d: data is prepared by one process on this system", asked)
        return 1
    return min(cpu_count(), MOST) if asked is None else max(asked, 1)


class Processes(Generic[Task, Result]):
    """Copies of this process (made when the second batch is read) that each do `work` on one batch at a time."""

    def __init__(self, work: Callable[[Task], Result], *, count: int) -> None:
        """`work` may hold anything; tasks and results are sent and must pickle. With `count` 1 it is all done here."""
        self._work = work
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def results(self, tasks: Iterator[Task]) -> Iterator[Result]:
        """What each task becomes, in their order. What `tasks` raises is raised behind the results of those before.

        DataError where a process was killed, and whatever `work` raises.
        """
        first = next(tasks, None)
        if first is None:
            return
        try:
            second = next(tasks, None) if self._count > 1 and self._pool is None else None
        except Exception:
            yield self._work(first)
            raise
        if second is None and self._pool is None:
            yield from map(self._work, chain([first], tasks))
            return
        yield from self._sent(chain([first] if second is None else [first, second], tasks))

    def _sent(self, tasks: Iterator[Task]) -> Iterator[Result]:
        pool = self._pool = self._pool or self._started()
        waiting: deque[Future[Result]] = deque()
        failure: Exception | None = None
        is_over = False
        try:
            while True:
                while not is_over and len(waiting) < AHEAD * self._count:
                    try:
                        waiting.append(pool.submit(_do, next(tasks)))
                    except StopIteration:
                        is_over = True
                    except BrokenProcessPool:
                        raise
                    except Exception as error:
                        failure, is_over = error, True
                if not waiting:
                    break
                yield waiting.popleft().result()
        except BrokenProcessPool:
            hint = "was there too little memory? Set dataset_num_proc to fewer processes, or to 1"
            raise DataError("a process that prepared data was killed", hint) from None
        if failure is not None:
            raise failure

    def _started(self) -> ProcessPoolExecutor:
        # Said before processes are copied, or `tokenizers` warns of its threads on stderr.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        return ProcessPoolExecutor(self._count, get_context("fork"), _begin, (self._work, os.getpid()))

    def __enter__(self) -> Processes[Task, Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)


_WORK: list[Callable[[Any], Any]] = []
"""Of a copied process: what it does."""


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    """A copied process has one thread, ends with its parent, and leaves Ctrl-C to it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(parent)
    _WORK[:] = [work]


def _do(task: Any) -> Any:
    return _WORK[0](task)
