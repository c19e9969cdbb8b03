"""`type: input_output`: a row's own segments, each with its label or weight and nothing added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.messages import Segments
from axo.data.rows import Row, describe, required
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_SHAPE = (
    'a row is {"segments": [{"text": "...", "label": false}, {"text": "...", "label": true}]}; a "weight" of 0.5 '
    "instead of a label counts half in the loss"
)


class InputOutput:
    keys: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._train_on_inputs = float(setting.train_on_inputs)

    def read(self, row: Row) -> Segments:
        """The row's segments; special tokens stand where the row writes them."""
        segments = required(row, "segments")
        if not isinstance(segments, list) or not segments:
            raise row.error(f"expected a list of segments, found {describe(segments)}", _SHAPE, field="segments")
        parts = tuple(self._part(row, number, segment) for number, segment in enumerate(segments))
        return Segments(parts, add_bos=False, add_eos=False)

    def _part(self, row: Row, number: int, segment: Any) -> tuple[str, float]:
        place = f"segments[{number}]"
        if not isinstance(segment, dict):
            raise row.error(f"expected an object with text and label, found {describe(segment)}", _SHAPE, field=place)
        if not isinstance(segment.get("text"), str):
            raise _fault(row, segment, "text", "text", place)
        return segment["text"], max(self._train_on_inputs, _weight(row, segment, place))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {"segments": [{"text": f"{number} + 1 =", "label": False}, {"text": f" {number + 1}\n", "label": True}]}
            for number in range(count)
        ]


def _weight(row: Row, segment: dict[str, Any], place: str) -> float:
    """How much the segment counts in the loss: its label, or its weight."""
    label, weight = segment.get("label"), segment.get("weight")
    if label is not None and (not isinstance(label, int) or label not in (0, 1)):
        raise _fault(row, segment, "label", "true or false", place)
    if weight is None:
        if label is None:
            raise _fault(row, segment, "label", "true or false", place)
        return float(label)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise _fault(row, segment, "weight", "a number of at least 0", place)
    if label is not None and bool(label) != bool(weight):
        message = f"the weight {weight} contradicts the label, {describe(bool(label))}"
        raise row.error(message, "keep one of the two", field=f"{place}.weight")
    return float(weight)


def _fault(row: Row, segment: dict[str, Any], name: str, wanted: str, place: str) -> DataError:
    found = f"expected {wanted}, found {describe(segment[name])}" if name in segment else "this field is missing"
    return row.error(found, _SHAPE, field=f"{place}.{name}")
