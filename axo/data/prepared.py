"""A store of prepared data and what was counted when it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from axo.data.report import DESCRIPTION, SetReport


@dataclass(frozen=True)
class Prepared:
    path: Path
    """Folder of the store."""
    reports: tuple[SetReport, ...]
    """One for each data set, in the recipe's order."""
    from_cache: bool
    key: str
    seconds: float
    writes_date: bool = False
    """Whether a chat template may write today's date, so that the data is another one tomorrow."""
    doubts: tuple[str, ...] = ()
    """What is said of the recipe each time it is used."""

    def named(self, names: Sequence[str]) -> Prepared:
        """The same with these names of its data sets: the store may have been made of equal data of other names."""
        reports = [replace(report, path=name) for report, name in zip(self.reports, names, strict=True)]
        return replace(self, reports=tuple(reports))


def find_store(root: Path, key: str) -> Prepared | None:
    """The store of this key; None where there is none or its description is damaged."""
    path = root / key
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        reports = tuple(SetReport(**report) for report in description["reports"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Prepared(path, reports, True, key, 0.0)
