"""The base of every section of a recipe."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Unknown keys are refused, values do not change after reading, the sentence beneath a key documents it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML 1.1 reads an unquoted `no` as false; and true is no number, though Python counts it as 1."""
        if not isinstance(value, bool) or info.field_name is None:
            return value
        choices = alternatives(cls.model_fields[info.field_name].annotation)
        if value is False and "no" in choices:
            return "no"
        if bool in choices or Any in choices or value in [choice for choice in choices if isinstance(choice, bool)]:
            return value
        raise PydanticCustomError("not_a_switch", "neither true nor false is meant here")


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
