"""JSON as rows hold it: decoded with what Python's reader lets pass refused, and every fault with its place."""

from __future__ import annotations

import json
import re
from typing import Any


class JsonFault(ValueError):
    """What is wrong in a JSON text, and where as far as it is known."""

    def __init__(
        self, message: str, position: int | None = None, *, key: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.position, self.key, self.hint = message, position, key, hint


def decode(text: str) -> Any:
    """The one value that `text` holds. JsonFault where it is not whole JSON."""
    value, end = decode_at(text, 0 if text[:1] == "{" else skip_space(text, 0))
    if end < len(text) and (rest := skip_space(text, end)) < len(text):
        raise JsonFault(f"expected nothing more after the value, found {found_at(text, rest)}", rest)
    return value


def decode_at(text: str, position: int) -> tuple[Any, int]:
    """The value that begins at `position`, and where it ends.

    JsonFault: broken JSON, nesting too deep, a number too long, a key given twice with two values, or half a character.
    """
    try:
        value, end = _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise JsonFault(_words(error), error.pos) from None
    except RecursionError:
        raise JsonFault("lists and objects are nested too deeply", position) from None
    except JsonFault:
        raise
    except ValueError:
        raise JsonFault("a number has more digits than can be read", position) from None
    _refuse_half_characters(value, text, position, end)
    return value, end


def skip_space(text: str, position: int) -> int:
    """Where the next character stands that is no JSON white space."""
    match = _SPACE.match(text, position)
    return position if match is None else match.end()


def found_at(text: str, position: int) -> str:
    """The character there, in words."""
    if skip_space(text, position) >= len(text):
        return "the end"
    character = text[position]
    return repr(character) if character.isprintable() else f"the character U+{ord(character):04X}"


_SPACE = re.compile(r"[ \t\n\r]*")
_EXPECTED = {
    "Expecting value": "expected a value",
    "Expecting property name enclosed in double quotes": "expected a key in double quotes",
    "Expecting ':' delimiter": "expected ':'",
    "Expecting ',' delimiter": "expected ',' or a closing bracket",
}
"""Python's words -> those of axo; what was found follows."""
_SAID = {
    "Unterminated string starting at": "this text has no closing quote before the end",
    "Invalid control character at": "a line break or control character in a text must be written as \\n or \\u....",
}


def _words(error: json.JSONDecodeError) -> str:
    if error.msg in _EXPECTED:
        return f"{_EXPECTED[error.msg]}, found {found_at(error.doc, error.pos)}"
    return _SAID.get(error.msg) or error.msg[:1].lower() + error.msg[1:]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless a key of it says two things."""
    values = dict(pairs)
    if len(values) < len(pairs):
        for key, value in pairs:
            if value != values[key]:
                raise JsonFault(
                    "this key stands twice in one object, with two values", key=key, hint="keep one of the two"
                )
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_half_characters(value: Any, text: str, position: int, end: int) -> None:
    """An escaped half of a surrogate pair is valid JSON but no text: no tokenizer can read it."""
    if text.find("\\u", position, end) < 0 or _HALF.search(text, position, end) is None:
        return
    for key, part in value.items() if isinstance(value, dict) else [(None, value)]:
        try:
            json.dumps([key, part], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            said = "half of a surrogate pair (\\ud800 to \\udfff on its own) is no character"
            hint = "write the character itself, or both of its halves"
            raise JsonFault(said, None if key is not None else position, key=key, hint=hint) from None
        except RecursionError:
            raise JsonFault("lists and objects are nested too deeply", position) from None
