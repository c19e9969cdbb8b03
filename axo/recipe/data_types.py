"""The `type:` strings of data sets whose answers are imitated: which there are, and what is wrong with any other."""

from __future__ import annotations

import re
from collections.abc import Iterable

from axo.recipe import renamed
from axo.recipe.dataset import DatasetEntry
from axo.recipe.describe import found_text
from axo.registry.registry import did_you_mean
from axo.registry.tables import DATASET_FORMATS

UNNAMED = ("mapping", "pretokenized", "custom_code")
"""Formats that no `type:` names: a mapping, none at all, and the name of a module."""
KNOWN_TYPES = tuple(name for name in DATASET_FORMATS if name not in UNNAMED)


def first_word(kind: str) -> str:
    """`chat_template` of `chat_template.argilla`: the family of a type."""
    return re.split(r"[.:]", kind)[0]


FAMILIES = tuple(dict.fromkeys(first_word(name) for name in KNOWN_TYPES))


def format_name(entry: DatasetEntry) -> str:
    """The name in DATASET_FORMATS of the format that reads a data set whose answers are imitated."""
    if entry.type is None:
        return "pretokenized"
    if not isinstance(entry.type, str):
        return "mapping"
    kind = plain(entry.type)
    return kind if kind in KNOWN_TYPES else "custom_code"


def plain(kind: str) -> str:
    """`alpaca_chat` for `alpaca_chat.load`, which says the same."""
    short = kind.removesuffix(".load")
    return short if short in KNOWN_TYPES else kind


def type_fault(entry: DatasetEntry, *, others: Iterable[str] = ()) -> tuple[str, str | None] | None:
    """What is wrong with an entry's type, and a hint. `others` are names that are looked at elsewhere."""
    kind = entry.type
    if not isinstance(kind, str) or plain(kind) in KNOWN_TYPES or kind in set(others):
        return None
    first = first_word(kind)
    if first in renamed.TYPES_GONE:
        return f"{kind!r} is no longer a type", renamed.TYPES_GONE[first]
    found = f"found {found_text(kind)}"
    variants = [name for name in KNOWN_TYPES if first_word(name) == first]
    if variants:
        return f"{found}, expected {_one_of(variants)}", did_you_mean(kind, variants)
    near = did_you_mean(kind, FAMILIES if kind == first else KNOWN_TYPES) or did_you_mean(first, FAMILIES)
    if entry.allow_custom_code and (_is_code(kind) or kind.isidentifier()):
        return None
    if _is_code(kind):
        run = f"if {kind} is a Python module of yours, set allow_custom_code: true to run it"
        return f"{found}, which is no type of axo", run if near is None else f"{near} Or, {run}"
    expected = f"expected {_one_of(FAMILIES)} or a mapping of field_* keys"
    return f"{found}, {expected}", near


def _one_of(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def _is_code(kind: str) -> bool:
    """`package.module`, `package.module.function` or `module:function`."""
    return re.fullmatch(r"[^\W\d]\w*([.:][^\W\d]\w*)+", kind) is not None
