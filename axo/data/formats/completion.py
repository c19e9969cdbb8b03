"""`type: completion`: plain text, trained throughout and cut into pieces of sequence_len, however long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.messages import Segments
from axo.data.rows import Row, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class Completion:
    keys: ClassVar[tuple[str, ...]] = ("field",)
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._field = entry.field

    def read(self, row: Row) -> Segments:
        """The whole text, ended by the end-of-sequence token."""
        return whole_text(row, self._field)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [{self._field: f"{number} and one more make {number + 1}."} for number in range(count)]


def whole_text(row: Row, field: str, *, overlap: int = 0) -> Segments:
    """A text that is trained throughout. An empty one has no end either, so that nothing is learnt from it."""
    found = text(row, field)
    return Segments(((found, 1.0),), add_bos=bool(found), add_eos=bool(found), chunk=True, overlap=overlap)
