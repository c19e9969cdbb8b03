"""The rows of a page as compact JSON: each token is a number in one vocabulary, reasons come in runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from axo.data.look import Look, Seen
from axo.report.inspection import Inspection

MOST_TOKENS = 3_500_000
"""Of a page: 14 to 18 MB."""
LONGEST = 20_000
"""Tokens of a sample that are in the page."""


def samples_json(found: Inspection, *, most_tokens: int = MOST_TOKENS) -> str:
    """What page.js reads, as text that may stand in a script element.

    Where there is no room for all rows, as many of the first and of the last ones are left out, which is said.
    """
    room = max(1, most_tokens // max(1, len(found.sets)))
    chosen = [_fitting(one.rows, room) for one in found.sets]
    tables = _Tables.of([look for rows in chosen for seen in rows for look in seen.looks])
    page = {
        "sets": [{"key": one.key, "name": one.name} for one in found.sets],
        "vocabulary": tables.vocabulary,
        "why": tables.why,
        "rows": [tables.row(number, seen) for number, rows in enumerate(chosen) for seen in rows],
    }
    # Pure ASCII without `<`, so that nothing of the data ends the script element or is taken for markup.
    text = json.dumps(page, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def num_fitting(rows: Sequence[Seen], *, sets: int, most_tokens: int = MOST_TOKENS) -> int:
    """How many rows of one of `sets` data sets are in the page."""
    return len(_fitting(rows, max(1, most_tokens // max(1, sets))))


def _fitting(rows: Sequence[Seen], room: int) -> Sequence[Seen]:
    """Rows from both ends of the list in turn, as long as there is room for their tokens."""
    ends = [at // 2 if at % 2 == 0 else len(rows) // 2 + at // 2 for at in range(2 * len(rows))]
    kept: set[int] = set()
    for at in dict.fromkeys(number for number in ends if number < len(rows)):
        room -= sum(min(len(look.ids), LONGEST) for look in rows[at].looks)
        if room < 0 and kept:
            break
        kept.add(at)
    return [rows[at] for at in sorted(kept)]


@dataclass
class _Tables:
    vocabulary: list[list[Any]] = field(default_factory=list[list[Any]])
    """[id, text], and the token's name in the tokenizer's vocabulary where it is another; the most frequent first."""
    why: list[Any] = field(default_factory=list[Any])
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    _reasons: dict[Any, int] = field(default_factory=dict[Any, int])

    @classmethod
    def of(cls, looks: Sequence[Look]) -> _Tables:
        counts: Counter[tuple[int, str, str]] = Counter()
        for look in looks:
            counts.update(zip(look.ids[:LONGEST], look.texts, look.names, strict=False))
        tables = cls()
        for number, ((token, text, name), _) in enumerate(counts.most_common()):
            tables.vocabulary.append([token, text] if name == text else [token, text, name])
            tables._numbers[token, text] = number
        return tables

    def row(self, set_number: int, seen: Seen) -> dict[str, Any]:
        place = {"set": set_number, "number": seen.number, "file": seen.file, "line": seen.line}
        return {**place, "looks": [self._look(look) for look in seen.looks]}

    def _look(self, look: Look) -> dict[str, Any]:
        pairs = zip(look.ids[:LONGEST], look.texts, strict=False)
        return {
            "side": look.side,
            "length": len(look.ids),
            "trained": look.trained,
            "tokens": [self._numbers[pair] for pair in pairs],
            "runs": self._runs(look),
            "status": look.status,
            "fate": look.fate,
            "starts": look.starts[:1000],
            "roles": look.roles,
            "straddling": look.straddling,
            "parity": None if look.parity is None else vars(look.parity),
        }

    def _runs(self, look: Look) -> list[tuple[int, int, float]]:
        """(tokens, number in why, weight)."""
        pairs = zip(look.reasons, look.weights, strict=True)
        return [
            (sum(1 for _ in run), self._reason(look.why[reason]), round(weight, 6))
            for (reason, weight), run in groupby(pairs)
        ]

    def _reason(self, reason: Any) -> int:
        if reason not in self._reasons:
            self._reasons[reason] = len(self.why)
            self.why.append(reason)
        return self._reasons[reason]
