"""Names of modules and parameters as recipes and peft mean them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from axo.errors import Finding, RecipeError

_SHOWN = 30


def ends(name: str, pattern: str) -> bool:
    """Whether `pattern` is a full name, or its end at a dot."""
    return name == pattern or name.endswith(f".{pattern}")


def matcher(pattern: str, *, regular: bool, key: str) -> Callable[[str], bool]:
    """Whether a full name is meant, as peft has it: a list holds (ends of) names, a text that stands alone is a regular
    expression for whole names. Raises RecipeError at `key` where it is none."""
    if not regular:
        return lambda name: ends(name, pattern)
    expression = compiled(pattern, key=key, hint="or give a list of names")
    return lambda name: expression.fullmatch(name) is not None


def by_pattern(pattern: str, *, key: str) -> re.Pattern[str]:
    """The expression that a key of a rank or alpha pattern stands for (peft 0.21, utils/other.py, get_pattern_key); to
    be used with `match`."""
    return compiled(rf"(.*\.)?({pattern})$", key=key, hint="give the end of a module's name, or a regular expression")


def compiled(pattern: str, *, key: str, hint: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise RecipeError([Finding(key, f"{pattern!r} is no regular expression: {error}", hint)]) from error


def last_parts(names: Sequence[str]) -> str:
    """The last components of names, each once, in words."""
    return listed(list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names if name)))


def listed(names: Sequence[str]) -> str:
    """At most so many names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
