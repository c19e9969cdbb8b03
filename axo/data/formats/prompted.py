"""The `type:` strings of the 2023 data sets: a prompt and its answer, written of a row's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from axo.data.formats.format import Setting
from axo.data.formats.prompts import PROMPTS, Prompt
from axo.data.messages import Segments
from axo.data.rows import Row, decoded, describe, optional_text, required, text
from axo.recipe.data_types import plain

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class Prompted:
    keys: ClassVar[tuple[str, ...]] = ()
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        assert isinstance(entry.type, str)
        self._prompt = PROMPTS[plain(entry.type)]
        self._train_on_inputs = float(setting.train_on_inputs)

    def read(self, row: Row) -> Segments:
        """Prompt and answer; the prompt is trained only with train_on_inputs.

        An empty answer has no end either, so that nothing of it is trained.
        """
        written, answer = _before_answer(self._prompt, row), _filled(self._prompt.answer, row)
        parts = ((written, self._train_on_inputs), (answer, 1.0))
        num_eos = self._prompt.num_eos if answer else 0
        return Segments(parts, add_bos=True, add_eos=num_eos, joined=self._prompt.joined)

    def question(self, asked: str) -> str:
        """The prompt of a row whose last column before the answer is `asked`, and all else empty."""
        columns = _columns(self._prompt.text)
        return self._prompt.text.format(**{**dict.fromkeys(columns, ""), columns[-1]: asked})

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [_example_row(self._prompt, number) for number in range(count)]


def _before_answer(prompt: Prompt, row: Row) -> str:
    front = ""
    if prompt.system is not None and (system := optional_text(row, prompt.system_column)):
        front = prompt.system.format(system=system)
    if prompt.with_input is not None and _optional(row, prompt.input):
        return front + _filled(prompt.with_input, row)
    return front + _filled(prompt.text, row)


def _filled(shape: str, row: Row) -> str:
    return shape.format(**{column: _column(row, column) for column in _columns(shape)})


def _columns(shape: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(shape) if name is not None]


def _column(row: Row, column: str) -> str:
    return _WRITTEN[column](row) if column in _WRITTEN else text(row, column)


def _optional(row: Row, column: str) -> str:
    return _WRITTEN[column](row) if column in _WRITTEN else optional_text(row, column)


def _choices(row: Row) -> str:
    found = decoded(row, required(row, "choices"), field="choices")
    if not isinstance(found, list):
        hint = 'as in "choices": ["yes", "no"]'
        raise row.error(f"expected a list of texts, found {describe(found)}", hint, field="choices")
    for number, choice in enumerate(found):
        if not isinstance(choice, str):
            hint = "write it as one text in quotes"
            raise row.error(f"expected text, found {describe(choice)}", hint, field=f"choices[{number}]")
    return "\n".join(f'- "{choice}"' for choice in found)


def _solution(row: Row) -> str:
    return text(row, "solution" if row.values.get("solution") is not None else "explanation")


def _evaluation(row: Row) -> str:
    return "".join(
        yaml.dump(decoded(row, required(row, name), field=name), default_flow_style=False)
        for name in ("scores", "critiques")
    )


_WRITTEN: Mapping[str, Callable[[Row], str]] = {
    "choices": _choices,
    "solution": _solution,
    "evaluation": _evaluation,
}
"""Names in prompts that stand for more than the text of one column."""


def _example_row(prompt: Prompt, number: int) -> dict[str, Any]:
    asked = _columns(prompt.with_input or prompt.text)
    row: dict[str, Any] = dict.fromkeys(asked, f"Add one to {number}.")
    row |= dict.fromkeys(_columns(prompt.answer), str(number + 1))
    if prompt.with_input is not None:
        row[prompt.input] = str(number)
    if prompt.system is not None:
        row[prompt.system_column] = "You add numbers."
    if "choices" in row:
        row["choices"] = [str(number), str(number + 1)]
    if row.pop("evaluation", None) is not None:
        row |= {"scores": {"creativity": number}, "critiques": {"creativity": {"improvements": "Say why."}}}
    return row
