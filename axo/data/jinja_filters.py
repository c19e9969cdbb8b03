"""Jinja's filters with a check before each whose result may be far larger than what it is given, and `tojson`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from jinja2.filters import FILTERS, make_attrgetter
from jinja2.utils import pass_environment, pass_eval_context

from axo.data.jinja_sizes import check_joined, check_power, check_printed, check_replaced, check_width, refuse_beyond


def limited_filters() -> dict[str, Callable[..., Any]]:
    """The filters that differ from Jinja's."""
    checked = {name: _checked(FILTERS[name], check) for name, check in _CHECKS.items()}
    return {**checked, "join": _join, "sum": _sum, "tojson": _tojson}


def _checked(filter_: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    # Such a filter gets something of Jinja's first.
    own = 1 if hasattr(filter_, "jinja_pass_arg") else 0

    @wraps(filter_)
    def run(*args: Any, **kwargs: Any) -> Any:
        check(*args[own:], **kwargs)
        return filter_(*args, **kwargs)

    return run


def _check_indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    width = len(width) if isinstance(width, str) else width
    if isinstance(width, int) and (len(text) + 1) * width > _SMALL:
        check_width(width, times=len(text.splitlines()) + 1)


def _check_batch(_: Any, linecount: Any, fill_with: Any = None) -> None:
    if fill_with is not None:
        check_width(linecount)


def _check_wrapped(text: Any, width: Any = 79, break_long_words: Any = True, wrapstring: Any = None, *_: Any) -> None:
    check_width(len(wrapstring or ""), times=len(text) + 1)


def _check_links(text: Any, *args: Any, **kwargs: Any) -> None:
    said = sum(len(value) for value in (*args, *kwargs.values()) if isinstance(value, str))
    check_width(said, times=text.count(".") + text.count(":") + text.count("@"))


_SMALL = 1 << 16
"""Nothing needs to be counted exactly for a result of this size."""
_CHECKS: dict[str, Callable[..., None]] = {
    "batch": _check_batch,
    "center": lambda text, width=80: check_width(width),
    "format": lambda text, *args, **kwargs: check_printed(text, kwargs or args),
    "indent": _check_indent,
    "replace": lambda s, old, new, count=None: check_replaced(s, old, new, count),
    "round": lambda value, precision=0, method="common": check_power(10, precision),
    "slice": lambda value, slices, fill_with=None: check_width(slices),
    "urlize": _check_links,
    "wordwrap": _check_wrapped,
}


@pass_eval_context
def _join(eval_ctx: Any, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    chosen = value if attribute is None else map(make_attrgetter(eval_ctx.environment, attribute), value)
    texts = [item if isinstance(item, str) else str(item) for item in chosen]
    check_joined(texts, len(str(d)))
    return FILTERS["join"](eval_ctx, texts, d)


@pass_environment
def _sum(environment: Any, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    chosen = iterable if attribute is None else map(make_attrgetter(environment, attribute), iterable)
    if isinstance(start, list | tuple):
        chosen = list(chosen)
        refuse_beyond(sum(len(item) for item in chosen if isinstance(item, list | tuple)), "a sum in the template")
    return sum(chosen, start)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers' filter of this name, which knows nothing of HTML."""
    options: dict[str, Any] = {"ensure_ascii": ensure_ascii, "separators": separators, "sort_keys": sort_keys}
    if indent is None and not any(len(text) > 2 for text in separators or ()):
        return json.dumps(value, indent=indent, **options)
    size = 0
    pieces: list[str] = []
    check_width(indent)
    for piece in json.JSONEncoder(indent=indent, **options).iterencode(value):
        pieces.append(piece)
        size += len(piece)
        refuse_beyond(size, "JSON that the template writes")
    return "".join(pieces)
