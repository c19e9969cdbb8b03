"""Where two explained recipes have another effect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from axo.plan.explain import UNSET, Explained
from axo.plan.words import in_words
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.section import Section, nested

NEVER = "never"
"""The Plan's word for what is switched off, whichever key it stands at."""


def differences(
    one: Iterable[Explained], other: Iterable[Explained]
) -> list[tuple[str, Explained | None, Explained | None]]:
    """(key, line of one, line of the other) of every key whose effect differs; a key without effect is as unset."""
    first, second = _by_key(one), _by_key(other)
    keys = list(dict.fromkeys([*first, *second]))
    pairs = [(key, first.get(key), second.get(key)) for key in keys]
    return [(key, a, b) for key, a, b in pairs if not _same(key, a, b)]


def _by_key(lines: Iterable[Explained]) -> dict[str, Explained]:
    return {line.key: line for line in lines if line.status != "no effect"}


def _same(key: str, a: Explained | None, b: Explained | None) -> bool:
    if a is not None and b is not None:
        return a.effective == b.effective
    line = a or b
    return line is not None and line.effective in _unset(key)


def _unset(key: str) -> set[str]:
    """What the key does where it is not given, in every way to say it."""
    default = _default(key)
    if default is None or default is False or default in ("", [], {}):
        return {NEVER, *map(in_words, (None, False, "", []))}
    return {UNSET, in_words(default)}


def _default(key: str) -> Any:
    first, *inner = [part for part in key.split(".") if not part.isdecimal()]
    section: type[Section] | None = SECTIONS.get(owner_of(first) or "")
    default: Any = None
    for part in (first, *inner):
        if section is None or part not in section.model_fields:
            return None
        info = section.model_fields[part]
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        section = nested(info.annotation)
    return default
