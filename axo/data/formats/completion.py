"""`type: completion`: plain text, trained throughout and cut into pieces of sequence_len."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.messages import Segments
from axo.data.rows import Row, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class Completion:
    keys: ClassVar[tuple[str, ...]] = ("field",)

    def __init__(self, entry: DatasetEntry, *, train_on_inputs: bool, default_system_message: str | None) -> None:
        self._field = entry.field

    def read(self, row: Row) -> Segments:
        """The whole text, ended by the end-of-sequence token."""
        return Segments(((text(row, self._field), True),), add_bos=True, add_eos=True, chunk=True)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [{self._field: f"{number} and one more make {number + 1}."} for number in range(count)]
