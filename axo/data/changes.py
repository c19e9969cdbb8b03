"""Why data is prepared again: what differs from the store that was made of the same data sets before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axo.data.cache import read_json
from axo.data.report import DESCRIPTION

_WORDS = {
    "tokenizer": "the tokenizer",
    "rows": "the rows",
    "template": "the chat template",
    "special_tokens": "the special tokens",
    "kwargs": "chat_template_kwargs",
    "format_version": "axo's own way of preparing",
}
_SHOWN = 4


def changes(parts: Mapping[str, Any], *, names: Sequence[str], root: Path) -> list[str]:
    """In words, what changed since data sets of these names were prepared under `root` with the fewest differences.

    [] where they never were, or nothing is known of how.
    """
    former = [parts for parts, known in _known(root) if known == list(names)]
    differences = [list(_differences(one, parts, ())) for one in former]
    least = min(differences, key=len, default=[])
    said = list(dict.fromkeys(_said(place, one, other, names) for place, one, other in least))
    more = [f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    return said[:_SHOWN] + more


def _known(root: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Parts and names of the data sets of each store."""
    for path in sorted(root.glob(f"*/{DESCRIPTION}")):
        description = read_json(path)
        parts, reports = description.get("parts"), description.get("reports")
        if isinstance(parts, dict) and isinstance(reports, list):
            yield parts, [str(report.get("path")) for report in reports if isinstance(report, dict)]


def _differences(one: Any, other: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Every place where two values differ, and what stands there."""
    if isinstance(one, dict) and isinstance(other, dict) and not _is_whole(place):
        for name in {**one, **other}:
            yield from _differences(one.get(name), other.get(name), (*place, name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other) and place == ("datasets",):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differences(left, right, (*place, number))
    elif one != other:
        yield place, one, other


def _is_whole(place: tuple[Any, ...]) -> bool:
    """Whether what stands there is said as one."""
    return bool(place) and place[-1] in ("rows", "special_tokens", "kwargs")


def _said(place: tuple[Any, ...], one: Any, other: Any, names: Sequence[str]) -> str:
    last = place[-1]
    of = f" of {names[place[1]]}" if place[0] == "datasets" and len(place) > 1 and len(names) > 1 else ""
    if last in _WORDS:
        return f"{_WORDS[last]}{of}"
    if all(isinstance(value, str | int | float | bool | None) for value in (one, other)):
        return f"{last}{of} ({_word(one)} -> {_word(other)})"
    return f"{last}{of}"


def _word(value: Any) -> str:
    text = "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 30 else f"{text[:30]}..."
