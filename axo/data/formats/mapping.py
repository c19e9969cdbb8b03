"""A `type:` that is a mapping: the recipe itself says which columns hold the parts and how they become a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.messages import Segments
from axo.data.rows import Row, optional_text, text
from axo.errors import Finding, RecipeError
from axo.recipe.data import MappingType

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_DEFAULT_FORMAT = "{instruction} {input} "
_DEFAULT_NO_INPUT_FORMAT = "{instruction} "


class Mapping:
    keys: ClassVar[tuple[str, ...]] = ("type",)
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        assert isinstance(entry.type, MappingType)
        self._type = entry.type
        self._train_on_inputs = float(setting.train_on_inputs)
        self._format = _DEFAULT_FORMAT if entry.type.format is None else entry.type.format
        self._no_input_format = _no_input_format(entry.type)
        _check("format", self._format, "instruction", "input", "system")
        _check("no_input_format", self._no_input_format, "instruction", "input", "system")
        _check("system_format", entry.type.system_format, "system")

    def read(self, row: Row) -> Segments:
        """Prompt and answer; a system text goes in front of the prompt unless the format places it.

        An empty answer has no end either, so that nothing of it is trained.
        """
        system = self._system(row)
        system = self._type.system_format.format(system=system) if system else ""
        given = optional_text(row, self._type.field_input)
        shape = self._format if given else self._no_input_format
        prompt = shape.format(instruction=text(row, self._type.field_instruction), input=given, system=system)
        if "{system}" not in shape:
            prompt = system + prompt
        answer = text(row, self._type.field_output)
        return Segments(((prompt, self._train_on_inputs), (answer, 1.0)), add_bos=True, add_eos=bool(answer))

    def question(self, asked: str) -> str:
        """The prompt of a row whose instruction is `asked`, without an input or a system text of its own."""
        row = {self._type.field_instruction: asked, self._type.field_output: ""}
        return self.read(Row(row, "question", 1)).parts[0][0]

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [self._example_row(number) for number in range(count)]

    def _system(self, row: Row) -> str:
        """A row that has the column has its own system text, even where that is none."""
        column = self._type.field_system or "system"
        if column in row.values:
            return optional_text(row, column)
        return self._type.system_prompt or ""

    def _example_row(self, number: int) -> dict[str, Any]:
        parts = {
            self._type.field_system: "You add numbers.",
            self._type.field_input: str(number),
            self._type.field_instruction: "Add one to the number.",
            self._type.field_output: str(number + 1),
        }
        return {field: value for field, value in parts.items() if field is not None}


def _no_input_format(section: MappingType) -> str:
    if section.no_input_format is not None:
        return section.no_input_format
    return _DEFAULT_NO_INPUT_FORMAT if section.format is None else section.format


def _check(key: str, shape: str, *names: str) -> None:
    """Refuse a format that names anything but its parts, before any row is read."""
    try:
        shape.format(**dict.fromkeys(names, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        wanted = " ".join(f"{{{name}}}" for name in names)
        finding = Finding(
            f"datasets.type.{key}",
            f"{shape!r} cannot be filled in: {error}",
            f"it may name {wanted}; a literal brace is written twice: {{{{ or }}}}",
        )
        raise RecipeError([finding]) from None
