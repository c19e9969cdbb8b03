"""`type: stepwise_supervised`: a prompt, the steps of its solution and a label for each (process reward models)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.messages import Steps
from axo.data.rows import Row, decoded, describe, required, text

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_SHAPE = 'a row is {"prompt": "...", "completions": ["a step", ...], "labels": [true, ...]}'


class StepwiseSupervised:
    keys: ClassVar[tuple[str, ...]] = ("step_separator", "max_completion_length", "train_on_last_step_only")
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        self._separator = "\n" if entry.step_separator is None else entry.step_separator
        self._max_completion_length = entry.max_completion_length
        self._last_step_only = bool(entry.train_on_last_step_only)

    def read(self, row: Row) -> Steps:
        """The row's steps, each with its class."""
        completions, labels = _list(row, "completions"), _list(row, "labels")
        if len(completions) != len(labels):
            message = f"found {len(labels)} labels for {len(completions)} steps in completions"
            raise row.error(message, "give one label for each step", field="labels")
        if not completions:
            raise row.error("this list is empty", _SHAPE, field="completions")
        steps = [
            (self._step(row, number, step), _label(row, number, label))
            for number, (step, label) in enumerate(zip(completions, labels, strict=True))
        ]
        prompt = text(row, "prompt")
        return Steps(prompt, tuple(steps), self._separator, self._max_completion_length, self._last_step_only)

    def _step(self, row: Row, number: int, step: Any) -> str:
        place = f"completions[{number}]"
        if not isinstance(step, str):
            raise row.error(f"expected text, found {describe(step)}", _SHAPE, field=place)
        if not step and not self._separator:
            message = "this step is empty and so is step_separator: no token can carry its label"
            raise row.error(message, "remove the step and its label", field=place)
        return step

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            {
                "prompt": f"Add one to {number}, twice.",
                "completions": [f"{number} + 1 = {number + 1}", f"{number + 1} + 1 = {number}"],
                "labels": [True, False],
            }
            for number in range(count)
        ]


def _list(row: Row, field: str) -> list[Any]:
    found = decoded(row, required(row, field), field=field)
    if not isinstance(found, list):
        raise row.error(f"expected a list, found {describe(found)}", _SHAPE, field=field)
    return found


def _label(row: Row, number: int, label: Any) -> int:
    """The class of a step: 1 or true for a right one, 0 or false for a wrong one, in general any number from 0 on."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if not isinstance(label, bool | int) or label < 0:
        hint = "write true or false, or the number of a class, counted from 0"
        raise row.error(f"expected true or false, found {describe(label)}", hint, field=f"labels[{number}]")
    return int(label)
