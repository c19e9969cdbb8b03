"""What a key expects and what was found instead, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen

from axo.recipe.secrets import is_private, may_be_secret
from axo.recipe.section import Section, Supported, alternatives, is_union
from axo.registry.registry import did_you_mean

LONGEST = 60
"""Characters of a text that a message shows."""
MOST = 12
"""Choices that a message lists."""


def found(value: Any, *, key: str = "", annotation: Any = None) -> str:
    """`value` in a few words, where a value of type `annotation` belongs; a secret is never shown, nor anything in a
    key that is named for one."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if _is_number(value, annotation, key=key) else found_text(value, key=key)
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a number" if is_private(_last(key)) else _shortened(str(value))


def spelt(value: Any) -> str:
    """A single value as a recipe writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def found_text(text: str, *, key: str = "") -> str:
    if not text:
        return "an empty text"
    if may_be_secret(text) or is_private(_last(key)):
        return "a text that looks like a secret"
    return f"the text {_shortened(text)!r}"


def expected(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What `annotation` (a type, with the constraints `bounds`) accepts, as the end of "expected ..."."""
    if hasattr(annotation, "__metadata__"):  # Annotated[T, ...]
        return expected(annotation.__origin__, (*bounds, *annotation.__metadata__))
    supported = next((bound for bound in bounds if isinstance(bound, Supported)), None)
    if supported is not None and all(isinstance(value, str) for value in supported.values):
        more = sum(isinstance(choice, str) for choice in alternatives(annotation)) - len(supported.values)
        others = f" ({more} more are known and not supported yet)" if more > 0 else ""
        return one_of(supported.values) + (" or another like them" if supported.matching else others)
    if is_union(annotation):
        members = [member for member in get_args(annotation) if member is not type(None)]
        words = [word for member in members if _is_words(member) for word in alternatives(member)]
        if words and bool in members:
            members, words = [member for member in members if member is not bool], [True, False, *words]
        kinds = [expected(member, bounds) for member in members if not _is_words(member)]
        return " or ".join([*kinds, *([one_of(words)] if words else [])])
    if _is_words(annotation):
        return one_of(alternatives(annotation))
    return _expected_type(annotation, bounds)


def hint(value: Any, annotation: Any, bounds: Sequence[Any] = (), *, key: str = "") -> str | None:
    """What to do about `value` where `annotation` is expected, or None."""
    if is_private(_last(key)) or (isinstance(value, str) and may_be_secret(value)):
        return None
    choices = alternatives(annotation)
    words = [choice for choice in choices if isinstance(choice, str)]
    values = [one for bound in bounds if isinstance(bound, Supported) for one in bound.values]
    supported = [word for word in values if isinstance(word, str)]
    if isinstance(value, str) and (words or supported):
        return did_you_mean(value, supported) or did_you_mean(value, words)
    if isinstance(value, int | float) and not isinstance(value, bool) and str in choices:
        return f'a text goes in quotes: "{value}"'
    if isinstance(value, str) and float not in choices and (whole := _whole(value, annotation, key=key)) is not None:
        return f"write {whole}"
    lists = [choice for choice in choices if get_origin(choice) is list]
    if isinstance(value, str) and any(_plural(get_args(one)[0]) == "texts" for one in lists):
        return f"write a list: [{_shortened(value)}]"
    if isinstance(value, dict) and lists:
        return "begin each item of the list with `- `"
    return None


def _expected_type(annotation: Any, bounds: Sequence[Any]) -> str:
    if annotation is bool:
        return "true or false"
    if annotation is int or annotation is float:
        return _number(annotation, bounds)
    if annotation is str:
        return "text"
    if get_origin(annotation) is list:
        (item,) = get_args(annotation)
        several = ", at least one" if any(isinstance(bound, MinLen) for bound in bounds) else ""
        return f"a list of {_plural(item)}{several}"
    if get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, Section)):
        return "a mapping of keys"
    return "a value"


def _number(kind: type, bounds: Sequence[Any]) -> str:
    limits: list[str] = []
    for bound in _flattened(bounds):
        if isinstance(bound, Gt):
            limits.append(f"of at least {cast(int, bound.gt) + 1}" if kind is int else f"above {bound.gt}")
        elif isinstance(bound, Ge):
            limits.append(f"of at least {bound.ge}")
        elif isinstance(bound, Lt):
            limits.append(f"below {bound.lt}")
        elif isinstance(bound, Le):
            limits.append(f"of at most {bound.le}")
    name = "a whole number" if kind is int else "a number"
    return f"{name} {' and '.join(limits)}" if limits else name


def _flattened(bounds: Sequence[Any]) -> list[Any]:
    """A pydantic FieldInfo inside `Annotated` keeps its own list of constraints."""
    return [part for bound in bounds for part in (getattr(bound, "metadata", None) or [bound])]


def _is_number(text: str, annotation: Any, *, key: str) -> bool:
    """Whether a number belongs there and `text` is one: YAML 1.1 reads 1e-4, which has no point, as a text."""
    choices = alternatives(annotation)
    if str in choices or not (int in choices or float in choices):
        return False
    hidden = len(text) > LONGEST or may_be_secret(text) or is_private(_last(key))
    return _NUMBER.fullmatch(text) is not None and not hidden


def _whole(text: str, annotation: Any, *, key: str) -> int | None:
    """The whole number above 0 that `text` (2e3) stands for, where it is not too long to be written out."""
    if not _is_number(text, annotation, key=key) or text.lstrip("+").isdigit():
        return None
    number = float(text)
    return int(number) if 0 < number < _MOST_WRITTEN_OUT and number.is_integer() else None


def _plural(item: Any) -> str:
    kind = alternatives(item)[0]
    if kind is str or isinstance(kind, str):
        return "texts"
    return "numbers" if kind in (int, float) else "lists" if get_origin(kind) else "mappings"


def _is_words(annotation: Any) -> bool:
    return all(_is_word(choice) for choice in alternatives(annotation))


def _is_word(choice: Any) -> bool:
    return isinstance(choice, str | bool | int) and not isinstance(choice, type)


def one_of(choices: Iterable[Any]) -> str:
    """`choices` as words: the only one, or all, or the first of very many."""
    words = [choice if isinstance(choice, str) else found(choice) for choice in choices]
    if len(words) > MOST:
        return f"one of {', '.join(words[:MOST])}, ... ({len(words)} in all: docs/recipe.md)"
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _last(key: str) -> str:
    return key.rpartition(".")[2]


_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_MOST_WRITTEN_OUT = 1e12
