"""`type: input_output`: a row's own segments, each with its label and nothing added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.messages import Segments
from axo.data.rows import Row, describe, required

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_SHAPE = 'a row is {"segments": [{"text": "...", "label": false}, {"text": "...", "label": true}]}'


class InputOutput:
    keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, entry: DatasetEntry, *, train_on_inputs: bool, default_system_message: str | None) -> None:
        self._train_on_inputs = train_on_inputs

    def read(self, row: Row) -> Segments:
        """The row's segments; special tokens stand where the row writes them."""
        segments = required(row, "segments")
        if not isinstance(segments, list) or not segments:
            raise row.error(f"expected a list of segments, found {describe(segments)}", _SHAPE, field="segments")
        parts = tuple(self._part(row, number, segment) for number, segment in enumerate(segments))
        return Segments(parts, add_bos=False, add_eos=False)

    def _part(self, row: Row, number: int, segment: Any) -> tuple[str, bool]:
        place = f"segments[{number}]"
        if not isinstance(segment, dict):
            raise row.error(f"expected an object with text and label, found {describe(segment)}", _SHAPE, field=place)
        for name, wanted, type_ in (("text", "text", str), ("label", "true or false", bool)):
            if name not in segment:
                raise row.error("this field is missing", _SHAPE, field=f"{place}.{name}")
            if not isinstance(segment[name], type_):
                message = f"expected {wanted}, found {describe(segment[name])}"
                raise row.error(message, _SHAPE, field=f"{place}.{name}")
        return segment["text"], segment["label"] or self._train_on_inputs

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {"segments": [{"text": f"{number} + 1 =", "label": False}, {"text": f" {number + 1}\n", "label": True}]}
            for number in range(count)
        ]
