"""`type: pretrain`: plain text for continued pretraining, trained throughout and cut into pieces of sequence_len.

In pretraining_dataset the pieces overlap, and each has its own beginning and end (as in Axolotl)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.completion import whole_text
from axo.data.formats.format import Setting
from axo.data.messages import Segments
from axo.data.rows import Row

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


_MOST_OVERLAP = 256
"""Tokens that pieces of a streamed text have in common, where half of one is not less (axolotl
prompt_strategies/pretrain.py, `stride`)."""


class Pretrain:
    keys: ClassVar[tuple[str, ...]] = ("text_column",)
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._column = entry.text_column
        overlap = min(_MOST_OVERLAP, (setting.sequence_len - 1) // 2)
        self._overlap = overlap if setting.streamed_text else 0

    def read(self, row: Row) -> Segments:
        """The whole text, ended by the end-of-sequence token."""
        return whole_text(row, self._column, overlap=self._overlap)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [{self._column: f"{number} and one more make {number + 1}."} for number in range(count)]
