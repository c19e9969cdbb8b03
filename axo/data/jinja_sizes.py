"""Operations of a chat template that make a text or list far larger than what they are given: refused before they do.

Each check reckons how large the result may become; `+` and `~`, which at most add what there is, are among them
because a loop may double a text as often as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.sandbox import SandboxedEscapeFormatter, SandboxedFormatter

MAX_CHARACTERS = 1 << 28
"""Longest text that a template may write, and longest text or list that one operation in it may make."""
_MAX_BITS = 1 << 20
"""Of a whole number that a product or a power makes: arithmetic with larger ones takes long by itself."""
_MAX_EXPONENT = 1000
_SIZED = str | bytes | list | tuple


class TooMuch(TemplateError):
    """A template went beyond its limits."""


def refuse_beyond(size: int, what: str) -> None:
    """TooMuch where this many characters or items are too many."""
    if size > MAX_CHARACTERS:
        raise TooMuch(f"{what} is too large: at most {MAX_CHARACTERS:,} characters or items are allowed")


def joined(pieces: Iterable[str]) -> str:
    """What a template, or a part of it, writes."""
    pieces = list(pieces)
    size = sum(map(len, pieces))
    if size > MAX_CHARACTERS:
        raise TooMuch(f"the template wrote {size:,} characters, at most {MAX_CHARACTERS:,} are allowed")
    return "".join(pieces)


def limited(result: Any) -> Any:
    """A sum or a joined text, which is at most as long as its parts together."""
    if isinstance(result, _SIZED):
        refuse_beyond(len(result), "a sum in the template")
    return result


def check_product(left: Any, right: Any) -> None:
    """TooMuch where `left * right` would be too large."""
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() + right.bit_length(), "a product")
    for sized, number in ((left, right), (right, left)):
        if isinstance(sized, _SIZED) and isinstance(number, int):
            refuse_beyond(len(sized) * number, "a product in the template")


def check_power(left: Any, right: Any) -> None:
    """TooMuch where `left ** right` would be too large."""
    if isinstance(right, int | float) and abs(right) > _MAX_EXPONENT:
        raise TooMuch(f"a power in the template is too large: at most {_MAX_EXPONENT:,} is allowed as its exponent")
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() * right, "a power")


def check_printed(text: Any, values: Any) -> None:
    """TooMuch where `text % values` would be too large."""
    if not isinstance(text, str | bytes):
        return
    form = text if isinstance(text, str) else text.decode("latin-1")
    given = (
        tuple(values.values()) if isinstance(values, Mapping) else values if isinstance(values, tuple) else (values,)
    )
    # A key may hold parentheses of its own, so that only Python can tell where it ends: any number may be a width.
    numbers = form if "%(" in form else " ".join(_WIDTHS.findall(form))
    widths = sum(map(int, _NUMBERS.findall(numbers)))
    if "*" in form:
        widths += sum(abs(value) for value in given if isinstance(value, int))
    longest = max((len(value) for value in given if isinstance(value, str | bytes)), default=0)
    refuse_beyond(len(form) + widths + form.count("%") * longest, "a formatted text in the template")


_NUMBERS = re.compile(r"\d+")
_WIDTHS = re.compile(r"%%|%[#0 +-]*([\d*.]+)")


class _Limited(SandboxedFormatter):
    """A text's `format`: each field and all of them together are limited."""

    _size = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        refuse_beyond(sum(map(int, _NUMBERS.findall(format_spec))), "a formatted text in the template")
        written = super().format_field(value, format_spec)
        self._size += len(written)
        refuse_beyond(self._size, "a formatted text in the template")
        return written


class _LimitedEscape(_Limited, SandboxedEscapeFormatter):
    """The same for a text that is marked as safe."""


def limited_format(environment: Any, text: str, *, of_mapping: bool) -> Callable[..., str]:
    """`text.format`, or `text.format_map`, inside the sandbox of the environment."""

    def written(values: Sequence[Any], named: Mapping[str, Any]) -> str:
        escape = getattr(text, "escape", None)
        formatter = _Limited(environment) if escape is None else _LimitedEscape(environment, escape=escape)
        return type(text)(formatter.vformat(text, values, named))

    if of_mapping:
        return lambda mapping, /: written((), mapping)
    return lambda *args, **kwargs: written(args, kwargs)


def check_width(width: Any, *, times: int = 1) -> None:
    """TooMuch where something is to be filled up to this width so many times."""
    if isinstance(width, int):
        refuse_beyond(width * times, "a text of that width in the template")


def check_replaced(text: Any, old: Any = "", new: Any = "", count: Any = -1) -> None:
    """TooMuch where `text.replace(old, new, count)` would be too large."""
    if not isinstance(text, str | bytes):
        text, old, new = str(text), str(old), str(new)
    if not isinstance(new, str | bytes) or len(text) + (len(text) + 1) * len(new) <= MAX_CHARACTERS:
        return
    times = text.count(old)  # type: ignore[arg-type]
    times = times if count is None or count < 0 else min(times, count)
    refuse_beyond(len(text) + times * (len(new) - len(old)), "a text with replacements in the template")


def check_joined(items: Sequence[Any], between: int) -> None:
    """TooMuch where these texts would be too large together, with so many characters between any two."""
    size = sum(map(_length, items))
    refuse_beyond(size + between * len(items), "a joined text in the template")


def checked_arguments(owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments with which a method of GROWING may be called. TooMuch where its result would be too large."""
    if not isinstance(owner, str | bytes | int):
        return args
    if name == "join" and args:
        items = list(args[0])
        check_joined(items, 0 if isinstance(owner, int) else len(owner))
        return items, *args[1:]
    if name == "replace":
        check_replaced(owner, *args[:2], count=args[2] if len(args) > 2 else kwargs.get("count", -1))
    elif name == "translate":
        check_width(max(map(_length, _values(args[0]) if args else ()), default=1), times=_length(owner))
    else:
        times = _tabs(owner) if name == "expandtabs" else 1
        for width in (*args, *kwargs.values()) or (8,):
            check_width(width, times=times)
    return args


GROWING = frozenset("ljust rjust center zfill expandtabs replace join translate to_bytes".split())
"""Methods of texts, bytes and whole numbers whose result may be far larger than what they are given."""


def _values(table: Any) -> Iterable[Any]:
    return table.values() if isinstance(table, Mapping) else table if isinstance(table, list | tuple) else ()


def _tabs(text: Any) -> int:
    return text.count("\t" if isinstance(text, str) else b"\t")


def _length(text: Any) -> int:
    return len(text) if isinstance(text, str | bytes) else 1


def _refuse_bits(bits: int, what: str) -> None:
    if bits > _MAX_BITS:
        raise TooMuch(f"{what} in the template is too large: a whole number may have at most {_MAX_BITS:,} bits")
