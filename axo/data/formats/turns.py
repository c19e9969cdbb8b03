"""Reading the `conversations` of rows whose format writes the turns itself, without a chat template."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from axo.data.rows import Row, decoded, describe, required

FIELD = "conversations"


class Said(NamedTuple):
    speaker: str
    text: str


def read_turns(row: Row, *, speaker: str, text: str, speakers: Collection[str]) -> list[Said]:
    """Who says what, under the keys `speaker` and `text` of each turn. DataError where a turn is anything else."""
    hint = f'a row is {{"{FIELD}": [{{"{speaker}": "{next(iter(speakers))}", "{text}": "..."}}, ...]}}'
    found = decoded(row, required(row, FIELD), field=FIELD)
    if not isinstance(found, list) or not found:
        raise row.error(f"expected a list of turns, found {describe(found)}", hint, field=FIELD)
    turns: list[Said] = []
    for number, item in enumerate(found):
        place = f"{FIELD}[{number}]"
        if not isinstance(item, dict):
            raise row.error(f"expected a turn (an object), found {describe(item)}", hint, field=place)
        for key in (speaker, text):
            if not isinstance(item.get(key), str):
                message = f"expected text, found {describe(item[key])}" if key in item else "this field is missing"
                raise row.error(message, hint, field=f"{place}.{key}")
        if item[speaker] not in speakers:
            message = f"unknown speaker {item[speaker]!r}, expected one of {', '.join(speakers)}"
            raise row.error(message, "rename it, or use type: chat_template", field=f"{place}.{speaker}")
        turns.append(Said(item[speaker], item[text]))
    return turns
