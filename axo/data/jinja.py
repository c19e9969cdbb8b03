"""Chat templates as programs: run in Jinja's sandbox, within limits of time and size, with what templates expect there.

The environment is that of transformers' apply_chat_template (transformers.utils.chat_template_utils), so that a
template writes here what it writes there; tests compare the two.
"""

from __future__ import annotations

import ctypes
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_SECONDS = 10.0
"""A template that takes longer for one conversation never ends."""
MAX_CHARACTERS = 1 << 28
"""Longest text that a template may write, and longest that one operation in it may make."""
GENERATION_OPEN, GENERATION_CLOSE = "\uf8a2", "\uf8a3"
"""Private-use characters around what a `generation` block writes, where they are asked for."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of a chain of thought; transformers copies the first one that is there to the first two."""


class TooMuch(TemplateError):
    """A template went beyond its limits."""


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str) -> None:
        """jinja2.TemplateError where `source` is no Jinja."""
        self.source = source
        self._environment = _Environment()
        self._template = self._environment.from_string(source)
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
                text = self._template.render(
                    messages=[_with_reasoning(message) for message in messages],
                    tools=tools,
                    add_generation_prompt=add_generation_prompt,
                    **{"documents": None, **variables},
                )
        except _OutOfTime:  # raised while the guard was left
            _WATCH.forget()
            raise _too_long() from None
        if len(text) > MAX_CHARACTERS:
            raise TooMuch(f"the template wrote {len(text):,} characters, at most {MAX_CHARACTERS:,} are allowed")
        return text


def _with_reasoning(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if found is None else {"thinking": found, **message, "reasoning_content": found}


class _Environment(ImmutableSandboxedEnvironment):
    """transformers' environment; products are kept small, since a text may be multiplied as easily as a number."""

    intercepted_binops = frozenset({"*", "**"})
    marks_generation = False

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals.update(
            raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_SafeNamespace
        )

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sized = [value for value in (left, right) if isinstance(value, str | list | tuple)]
        numbers = [value for value in (left, right) if isinstance(value, int)]
        if operator == "*" and sized and numbers and len(sized[0]) * max(numbers) > MAX_CHARACTERS:
            raise TooMuch("a product in the template is too large")
        if operator == "**" and isinstance(right, int | float) and abs(right) > 1000:
            raise TooMuch("a power in the template is too large")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` around what the assistant writes."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        text = caller()
        marks = getattr(self.environment, "marks_generation", False)
        return f"{GENERATION_OPEN}{text}{GENERATION_CLOSE}" if marks else text


class _SafeNamespace(Namespace):
    """jinja2's namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict(...)` and `dict.fromkeys(...)`, and nothing else of Python's type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template may not store {name!r} in a namespace")


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


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
            except Exception:
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
