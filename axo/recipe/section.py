"""The base of every section of a recipe, and the marks that say how far axo is with a key."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Unknown keys are refused, values do not change after reading, the sentence beneath a key documents it.

    Every key of the language is a field here, also one that axo cannot run yet: its type and its meaning are known, and
    a mark in its `Annotated` type says what axo does with it. A key without a mark works."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_switches(cls, given: Any) -> Any:
        """One validator for the whole section: one on each field would take a quarter of all start-up."""
        if not isinstance(given, dict):
            return given
        values = cast("dict[str, Any]", given)
        return {
            key: cls._read_switch(key, value) if isinstance(value, bool) else value for key, value in values.items()
        }

    @classmethod
    def _read_switch(cls, key: str, value: bool) -> Any:
        """YAML 1.1 reads an unquoted `no` as false; and true is no number, though Python counts it as 1."""
        field = cls.model_fields.get(key)
        choices = [bool] if field is None else alternatives(field.annotation)
        if value is False and "no" in choices:
            return "no"
        if bool in choices or Any in choices or value in [choice for choice in choices if isinstance(choice, bool)]:
            return value
        return _NEITHER_TRUE_NOR_FALSE


_NEITHER_TRUE_NOR_FALSE = object()
"""Stands for a switch where none is meant: no type takes it."""


@dataclass(frozen=True)
class NotYet:
    """The key is refused, unless its value is its default or switches it off."""

    off: tuple[Any, ...] = ()
    """Values that ask for what axo does anyway; empty: what is false, zero or empty."""
    data: bool | tuple[Any, ...] = False
    """Only training lacks it, data can be prepared all the same: whatever the value (True), or with these values."""

    def prepares(self, value: Any) -> bool:
        """Whether data can be prepared although the key has this value."""
        return value in self.data if isinstance(self.data, tuple) else self.data


@dataclass(frozen=True, init=False)
class Supported:
    """Of the values that the type allows, those that axo can run; the others are refused as not supported yet."""

    values: tuple[Any, ...]
    matching: str | None
    """Regular expression of further texts that axo can run, of which `values` are examples."""
    data: bool
    """Only training lacks the other values, data can be prepared all the same."""
    why: str | None
    """Why the others stay out, as the end of a sentence that begins with the value; None: they are not built yet."""

    def __init__(self, *values: Any, matching: str | None = None, data: bool = False, why: str | None = None) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "matching", matching)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "why", why)


@dataclass(frozen=True)
class NoEffect:
    """The key is accepted with a note: it changes nothing here."""

    why: str
    """The reason, as the end of a sentence that begins with the key."""
    only: tuple[Any, ...] = ()
    """The values of which that is true, where it is not true of all; the others are refused."""


FASTER = NoEffect("it would change speed or memory, not what is learnt")
LEANER = NoEffect("it would save memory, not change what is learnt; the run may need more without it")
"""Of keys that a recipe may rely on to fit into memory."""
UNREAD = NoEffect("nothing reads it, nor does Axolotl")
PLACED = NoEffect("the Plan decides where tensors are and in which type")
COUNTED = NoEffect("packing runs in one process and counts exactly")
MAPPED = NoEffect("prepared data is mapped from disk, there is no loader")
SET_BY_COMMAND = NoEffect("it is set by the command")
"""Reasons that several keys share."""


@dataclass(frozen=True)
class Differs:
    """The default is not Axolotl's."""

    axolotl: str
    """What Axolotl does where the key is unset, and why axo does not."""


@dataclass(frozen=True)
class Ours:
    """The key is not Axolotl's."""


MarkT = TypeVar("MarkT", NotYet, Supported, NoEffect, Differs, Ours)


def mark(field: FieldInfo, kind: type[MarkT]) -> MarkT | None:
    """The mark of this kind that the field carries."""
    return next((one for one in field.metadata if isinstance(one, kind)), None)


def nested(annotation: Any) -> type[Section] | None:
    """The section that a key holds, alone, in a list, or among other types."""
    for choice in alternatives(annotation):
        if isinstance(choice, type) and issubclass(choice, Section):
            return choice
        if get_origin(choice) is list:
            return nested(get_args(choice)[0])
    return None


def alternatives(annotation: Any) -> list[Any]:
    """The types and literal values that a key accepts, unions and `Annotated` taken apart, None left out."""
    if annotation is type(None):
        return []
    if hasattr(annotation, "__metadata__"):  # Annotated[T, ...]
        return alternatives(annotation.__origin__)
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if is_union(annotation):
        return [choice for member in get_args(annotation) for choice in alternatives(member)]
    return [annotation]


def is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)
