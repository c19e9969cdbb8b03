"""A content that is given in parts: texts, thoughts and tool calls, and what each says of being trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axo.data.messages import Detail
from axo.data.rows import Row, decoded, describe

WEIGHT = "weight"
"""Key of a message's or part's weight in the loss, as in OpenAI's fine-tuning data."""
_PART = (
    'a part is {"type": "text", "text": "..."}, with "train": true or false, or "weight": a number, where it is told'
)
_CALL_PART = 'as in {"type": "tool_call", "value": {"name": "...", "arguments": {...}}}'
_TEXTS = ("text", "content", "value", "reasoning", "thinking")
"""Keys of a part's text; the first one that is there."""
_THOUGHTS = frozenset({"reasoning", "thinking"})
_CALLS = frozenset({"tool_call", "tool_use", "function_call"})
_OTHER = "images, sound and video cannot be trained on yet: leave the row or the part out"


LEAST, MOST = 1e-6, 1e6
"""Bounds of a weight that is not 0: beyond them a loss in float32 has nothing left of the others, or of this one."""


@dataclass(frozen=True)
class Text:
    value: str | None
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True)
class Content:
    """What stands in the parts of a content."""

    text: Text
    reasoning: Text
    calls: tuple[dict[str, Any], ...] = ()
    """As `tool_calls` has them."""


def read_parts(row: Row, parts: Sequence[Any], place: str) -> Content:
    """The parts of each kind joined, in their order. DataError where a part is wrong or of another kind."""
    kinds: dict[str, list[tuple[int, Any]]] = {"text": [], "reasoning": [], "call": []}
    for number, part in enumerate(parts):
        kinds[_kind(row, part, f"{place}[{number}]")].append((number, part))
    calls = tuple(_call(row, part, f"{place}[{number}]") for number, part in kinds["call"])
    text = joined_parts(row, kinds["text"], place)
    none = Text(None)
    return Content(
        none if calls and not kinds["text"] else text,
        joined_parts(row, kinds["reasoning"], place) if kinds["reasoning"] else none,
        calls,
    )


def _kind(row: Row, part: Any, place: str) -> str:
    if not isinstance(part, dict):
        raise row.error(f"expected a part (an object), found {describe(part)}", _PART, field=place)
    kind = part.get("type", "text")
    if kind in _CALLS:
        return "call"
    if kind in _THOUGHTS:
        return "reasoning"
    if kind != "text":
        raise row.error(f"this part is no text but {describe(kind)}", _OTHER, field=f"{place}.type")
    return "text"


def _call(row: Row, part: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The call of a part, in the shape that chat templates read."""
    for flag in ("train", WEIGHT):
        if part.get(flag) is not None:
            hint = "a call is trained as its turn is: give the flag to the message"
            raise row.error("a tool call in a content has no flag of its own", hint, field=f"{place}.{flag}")
    key = next(
        (key for key in ("value", "tool_call", "function", "content", "text") if part.get(key) is not None), None
    )
    call = part if key is None else decoded(row, part[key], field=f"{place}.{key}")
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise row.error(f"expected a tool call, found {describe(call)}", _CALL_PART, field=place)
    arguments = call.get("arguments", call.get("input", {}))
    function = {"name": call["name"], "arguments": decoded(row, arguments, field=f"{place}.arguments")}
    return {"type": "function", "function": function}


def joined_parts(row: Row, parts: Sequence[tuple[int, Any]], place: str) -> Text:
    """Numbered parts as one text, and what each part says of itself."""
    texts: list[str] = []
    details: list[Detail] = []
    position, told = 0, False
    for number, part in parts:
        here = f"{place}[{number}]"
        text = _part_text(row, part, here)
        weight = part_weight(row, part, here)
        told = told or weight is not None
        if text:
            details.append(Detail(position, position + len(text), weight))
        texts.append(text)
        position += len(text)
    return Text("".join(texts), tuple(details) if told else ())


def _part_text(row: Row, part: Any, place: str) -> str:
    if not isinstance(part, dict):
        raise row.error(f"expected a part (an object), found {describe(part)}", _PART, field=place)
    key = next((key for key in _TEXTS if part.get(key) is not None), None)
    if key is None:
        raise row.error("this part has no text", _PART, field=place)
    if not isinstance(part[key], str):
        raise row.error(f"expected text, found {describe(part[key])}", _PART, field=f"{place}.{key}")
    return part[key]


def part_weight(row: Row, part: Mapping[str, Any], place: str) -> float | None:
    """What a part says of how much it counts; None where it says nothing."""
    for key, switch in (("train", True), (WEIGHT, False)):
        if part.get(key) is not None:
            return share(row, part[key], f"{place}.{key}", switch=switch)
    return None


def share(row: Row, value: Any, place: str, *, switch: bool) -> float:
    """How much something counts: true, false, 0 or a number between LEAST and MOST."""
    if isinstance(value, bool) and switch:
        return float(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value == 0 or LEAST <= value <= MOST):
        return float(value)
    wanted = "true, false or a number" if switch else "a number"
    hint = f"0, or {LEAST:g} to {MOST:g}" if number else "write it without quotes"
    raise row.error(f"expected {wanted} of at least 0, found {describe(value)}", hint, field=place)
