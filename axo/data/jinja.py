"""Chat templates as programs: run in Jinja's sandbox, within limits of time and size, with what templates expect there.

The environment is that of transformers' apply_chat_template (transformers.utils.chat_template_utils), so that a
template writes here what it writes there; tests compare the two.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from axo.data.jinja_environment import GENERATION_CLOSE, GENERATION_OPEN, ChatEnvironment
from axo.data.jinja_sizes import TooMuch

__all__ = ["GENERATION_CLOSE", "GENERATION_OPEN", "REASONING", "ChatTemplate", "TooMuch"]

MAX_SECONDS = 10.0
"""A template that takes longer for one conversation never ends."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of a chain of thought; transformers copies the first one that is there to the first two."""
_REASONING = frozenset(REASONING)


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str) -> None:
        """jinja2.TemplateError where `source` is no Jinja."""
        self.source = source
        self._environment = ChatEnvironment()
        self._template = self._environment.from_string(source)
        self._globals = dict(self._template.globals)
        self.has_generation_blocks = re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", source) is not None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Any = None,
        add_generation_prompt: bool = False,
        variables: Mapping[str, Any],
        mark_generation: bool = False,
    ) -> str:
        """What the template writes. Any exception that the template raises; TooMuch beyond the limits.

        `mark_generation` writes GENERATION_OPEN and GENERATION_CLOSE around `generation` blocks.
        """
        self._environment.marks_generation = mark_generation
        try:
            with _WATCH.watched():
                given = dict(
                    messages=[_with_reasoning(message) for message in messages],
                    tools=tools,
                    add_generation_prompt=add_generation_prompt,
                    **{"documents": None, **variables},
                )
                return self._environment.write(self._template, self._globals, given)
        except _OutOfTime:  # raised while the guard was left
            _WATCH.forget()
            raise _too_long() from None


def _with_reasoning(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if _REASONING.isdisjoint(message):
        return message
    found = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if found is None else {"thinking": found, **message, "reasoning_content": found}


class _Watch:
    """Ends a render that takes too long, by an exception raised in its thread.

    One thread for the process looks every second; a render only notes when it began.
    """

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, daemon=True, name="axo-template-watch")
            self._thread.start()
        own = threading.get_ident()
        self.forget()
        self._began[own] = monotonic()
        try:
            try:
                yield
            except _OutOfTime:
                raise
            except BaseException:
                self._done(own)
                raise
            self._done(own)
        except _OutOfTime:
            self.forget()
            raise _too_long() from None

    def forget(self) -> None:
        """This thread has had its exception, or never gets one."""
        with self._lock:
            self._ended.discard(threading.get_ident())

    def _done(self, thread: int) -> None:
        """The render ended by itself; an exception that is on its way is awaited here, where it does no harm."""
        with self._lock:
            self._began.pop(thread, None)
            late = thread in self._ended
        until = monotonic() + 1.0
        while late and monotonic() < until:
            sleep(0)

    def _look(self) -> None:
        pause = threading.Event()
        while not pause.wait(min(1.0, MAX_SECONDS / 4)):
            with self._lock:
                for thread, began in list(self._began.items()):
                    if monotonic() - began > MAX_SECONDS:
                        del self._began[thread]
                        self._ended.add(thread)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_OutOfTime))


def _too_long() -> TooMuch:
    return TooMuch(f"the template was not done after {MAX_SECONDS:g} seconds: it may never end")


class _OutOfTime(BaseException):
    """Raised inside a render that takes too long."""


_WATCH = _Watch()
