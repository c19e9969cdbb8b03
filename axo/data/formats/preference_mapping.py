"""Preferences whose `type:` is a mapping: the recipe says which columns hold the parts and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from axo.data.formats.format import Setting
from axo.data.formats.preference import judged, pair, truth
from axo.data.messages import Compared
from axo.data.rows import Row, optional_text, text
from axo.errors import Finding, RecipeError
from axo.recipe.data import MappingType

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


class PairMapping:
    keys: ClassVar[tuple[str, ...]] = ("type",)
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        assert isinstance(entry.type, MappingType)
        self._prompt = _Prompt(entry.type)
        self._chosen = _Part("chosen", entry.type.field_chosen, entry.type.chosen_format)
        self._rejected = _Part("rejected", entry.type.field_rejected, entry.type.rejected_format)

    def read(self, row: Row) -> Compared:
        """The prompt and both answers, each under its format."""
        return pair(self._prompt.read(row), chosen=self._chosen.read(row), rejected=self._rejected.read(row))

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            self._prompt.example(number) | {self._chosen.field: str(number + 1), self._rejected.field: str(number)}
            for number in range(count)
        ]


class JudgedMapping:
    keys: ClassVar[tuple[str, ...]] = ("type",)
    chat: ClassVar[bool] = False

    def __init__(self, entry: DatasetEntry, setting: Setting) -> None:
        assert isinstance(entry.type, MappingType)
        self._prompt = _Prompt(entry.type)
        self._completion = _Part("completion", entry.type.field_completion, entry.type.completion_format)
        self._label = entry.type.field_label or "label"

    def read(self, row: Row) -> Compared:
        """The prompt and the answer, each under its format, and what is said of it."""
        desirable = truth(row, self._label)
        return judged(self._prompt.read(row), self._completion.read(row), desirable=desirable)

    def example_rows(self, count: int) -> list[dict[str, Any]]:
        return [
            self._prompt.example(number) | {self._completion.field: str(number + 1), self._label: True}
            for number in range(count)
        ]


class _Part:
    """An answer."""

    def __init__(self, name: str, field: str | None, shape: str | None) -> None:
        self.field = field or name
        self._name = name
        self._shape = shape or f"{{{name}}}"
        _check(f"{name}_format", self._shape, name)

    def read(self, row: Row) -> str:
        return self._shape.format(**{self._name: text(row, self.field)})


class _Prompt:
    """The prompt, with the row's system text or the recipe's."""

    def __init__(self, section: MappingType) -> None:
        self._field = section.field_prompt or "prompt"
        self._system_field = section.field_system or "system"
        self._system = section.system_prompt or ""
        self._system_shape = section.system_format
        self._shape = section.prompt_format or "{prompt}"
        _check("prompt_format", self._shape, "prompt", "system")
        _check("system_format", self._system_shape, "system")
        for key in ("field_system", "system_prompt", "system_format"):
            if key in section.model_fields_set and "{system}" not in self._shape:
                message = "the system text has no place in prompt_format"
                raise RecipeError([Finding(f"datasets.type.{key}", message, "write {system} in prompt_format")])

    def read(self, row: Row) -> str:
        system = ""
        if "{system}" in self._shape:
            system = optional_text(row, self._system_field) or self._system
        system = self._system_shape.format(system=system) if system else ""
        return self._shape.format(prompt=text(row, self._field), system=system)

    def example(self, number: int) -> dict[str, Any]:
        system = {self._system_field: "You add numbers."} if "{system}" in self._shape else {}
        return {self._field: f"Add one to {number}."} | system


def _check(key: str, shape: str, *names: str) -> None:
    """Refuse a format that lacks the part itself or names anything else, before any row is read."""
    try:
        filled = shape.format(**dict.fromkeys(names, _FILLED))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        fault = f"{shape!r} cannot be filled in: {error}"
    else:
        if _FILLED in filled and f"{{{names[0]}" in shape:
            return
        fault = f"{shape!r} has no place for the text: {{{names[0]}}} is not in it"
    wanted = " ".join(f"{{{name}}}" for name in names)
    hint = f"it may name {wanted}; a literal brace is written twice: {{{{ or }}}}"
    raise RecipeError([Finding(f"datasets.type.{key}", fault, hint)])


_FILLED = "\x00"
