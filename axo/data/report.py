"""What became of a data set's rows and tokens, counted exactly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from axo.data.source import expanded, title

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

DESCRIPTION = "axo.json"
"""File of a store that holds its reports."""


@dataclass(frozen=True)
class SetReport:
    """tokens_read = tokens_kept + tokens_dropped + tokens_truncated."""

    path: str
    rows: int = 0
    """Rows as read."""
    samples: int = 0
    """Samples that were kept."""
    tokens_read: int = 0
    tokens_kept: int = 0
    tokens_dropped: int = 0
    """Of samples that were dropped whole."""
    tokens_truncated: int = 0
    """Cut off the ends of samples that were kept, or of samples that were dropped afterwards."""
    trained_tokens: int = 0
    """Targets that are trained in kept samples."""
    samples_dropped_long: int = 0
    samples_dropped_short: int = 0
    samples_dropped_untrained: int = 0
    tokens_dropped_long: int = 0
    """Those of tokens_dropped that went with samples_dropped_long, and so on."""
    tokens_dropped_short: int = 0
    tokens_dropped_untrained: int = 0
    samples_dropped_duplicate: int = 0
    """Of rows that are equal to an earlier row in every column (dataset_exact_deduplication)."""
    tokens_dropped_duplicate: int = 0
    """Those of tokens_dropped that are no loss: the same tokens are kept once."""
    straddling_tokens: int = 0
    """Tokens across an edge of a trained stretch, trained or not (before anything is cut or dropped)."""
    equal_answers: int = 0
    """Rows whose chosen answer is the rejected one, from which nothing can be learnt."""
    render_fallbacks: int = 0
    """Conversations that needed more than one render."""
    trained_turns: int = 0
    """Turns of conversations of which something is trained, in what is kept."""
    trained_ends: int = 0
    """Those of them whose end-of-turn is trained."""
    unended_turns: int = 0
    """Those of them that are to end with a trained end-of-turn and do not: the chat template writes none there."""
    tools_unwritten: int = 0
    """Conversations with tools that the chat template does not write."""
    reasoning_removed: int = 0
    """Messages whose chain of thought the chat template does not write."""
    role_tokens: dict[str, int] = field(default_factory=dict[str, int])
    """Tokens of the turns of each role, with their end-of-turn, in what is kept."""
    role_trained: dict[str, int] = field(default_factory=dict[str, int])
    """Those of them that are trained."""

    @property
    def tokens_lost(self) -> int:
        """Tokens that were read and are not trained with because of their sample's length or labels."""
        return self.tokens_dropped - self.tokens_dropped_duplicate + self.tokens_truncated

    @property
    def share_lost(self) -> float:
        """Of the tokens that were read, duplicates left out."""
        read = self.tokens_read - self.tokens_dropped_duplicate
        return self.tokens_lost / read if read else 0.0


def set_names(entries: Iterable[DatasetEntry]) -> tuple[str, ...]:
    """What data sets are called in metrics, by their number in a store that is made of these entries.

    A store itself may have been made of equal data under other names."""
    return names_of([title(one) for entry in entries for one in expanded(entry)])


def names_of(paths: Sequence[str]) -> tuple[str, ...]:
    """The stem of a file, or the last part of a folder's or hub data set's name; with the part before it, then with a
    number, where two would be the same."""
    parts = [[part for part in re.split(r"[/\\]+", path) if part not in ("", ".", "..")] or [path] for path in paths]
    short = [_plain(_FILE_ENDING.sub("", part[-1])) for part in parts]
    longer = [_plain("_".join([*part[-2:-1], name])) for part, name in zip(parts, short, strict=True)]
    many = Counter(short)
    names = [long if many[name] > 1 else name for name, long in zip(short, longer, strict=True)]
    result: list[str] = []
    for name in names:
        number, unique = 2, name
        while unique in result or (unique != name and unique in names):
            unique, number = f"{name}_{number}", number + 1
        result.append(unique)
    return tuple(result)


def _plain(name: str) -> str:
    """What every tracker takes as part of a metric's name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "data"


_FILE_ENDING = re.compile(r"(\.(json|jsonl|csv|tsv|parquet|arrow|txt|gz|zst|xz|bz2|lz4|zip))+$")
