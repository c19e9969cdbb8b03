"""pydantic's errors as findings: one for each place in the recipe, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args, get_origin

from pydantic import ValidationError

from axo.errors import Finding
from axo.recipe.describe import expected, found, hint
from axo.recipe.section import Section, alternatives
from axo.registry.registry import did_you_mean

Path = tuple[str | int, ...]


def faults(error: ValidationError, *, section: type[Section], given: Mapping[str, Any]) -> list[Finding]:
    """`error` came of validating `given` as `section`."""
    kinds: dict[Path, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        missing = detail["type"] == "missing"
        path = _place(detail["loc"], given, missing=missing)
        unknown = "[key]" in detail["loc"]  # of a mapping whose keys are given by its type
        kinds.setdefault(path, "missing" if missing else "extra_forbidden" if unknown else detail["type"])
    # A union reports each of its members; the one that a value was meant for is the one with faults inside it.
    deepest = [path for path in kinds if not any(other[: len(path)] == path and other != path for other in kinds)]
    return [_finding(path, kinds[path], section, given) for path in deepest]


def _place(loc: Path, given: Mapping[str, Any], *, missing: bool) -> Path:
    """`loc` without the names of union members that pydantic mixes into it."""
    path: list[str | int] = []
    value: Any = given
    for part in loc:
        if _holds(value, part):
            value = value[part]
            path.append(part)
    return (*path, loc[-1]) if missing else tuple(path)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(cast("list[Any]", value))


def _finding(path: Path, kind: str, section: type[Section], given: Mapping[str, Any]) -> Finding:
    key = ".".join(str(part) for part in path)
    if kind == "extra_forbidden":
        return Finding(key, "unknown key", did_you_mean(str(path[-1]), _siblings(path, section)))
    annotation, bounds = _declared(path, section)
    if kind == "missing":
        return Finding(key, "this key is missing", f"expected {expected(annotation, bounds)}")
    value = _value(path, given)
    message = f"found {found(value, key=key, annotation=annotation)}, expected {expected(annotation, bounds)}"
    return Finding(key, message, hint(value, annotation, bounds, key=key) or _meant(key, value))


def _declared(path: Path, section: type[Section]) -> tuple[Any, Sequence[Any]]:
    """Type and constraints that are declared for the place `path`."""
    annotation: Any = section
    bounds: Sequence[Any] = ()
    for part in path:
        annotation, bounds = _step(annotation, part)
    return annotation, bounds


def _step(annotation: Any, part: str | int) -> tuple[Any, Sequence[Any]]:
    for choice in alternatives(annotation):
        if isinstance(choice, type) and issubclass(choice, Section) and part in choice.model_fields:
            field = choice.model_fields[str(part)]
            return field.annotation, field.metadata
        if get_origin(choice) in (list, dict):
            return get_args(choice)[-1], ()
    return Any, ()


def _siblings(path: Path, section: type[Section]) -> list[str]:
    annotation, _ = _declared(path[:-1], section)
    choices = [
        choice for choice in alternatives(annotation) if isinstance(choice, type) and issubclass(choice, Section)
    ]
    return [name for choice in choices for name in choice.model_fields]


def _value(path: Path, given: Mapping[str, Any]) -> Any:
    value: Any = given
    for part in path:
        value = value[part]
    return value


def _meant(key: str, value: Any) -> str | None:
    if key in _OF_ZERO and type(value) in (int, float) and not value:
        return _OF_ZERO[key]
    return _HINTS.get((key, type(value).__name__))


_HINTS: Mapping[tuple[str, str], str] = {
    ("warmup_steps", "float"): "a share of the steps is given as warmup_ratio",
    ("tokens", "dict"): "bos_token, eos_token, ... stand inside special_tokens; tokens is the list of words to add",
}
"""(key, type of what was found) -> what was probably meant."""
_NO_SAVES = 'save_strategy: "no" saves none'
_OF_ZERO: Mapping[str, str] = {
    "save_steps": f"leave it out to save at each epoch; {_NO_SAVES}",
    "saves_per_epoch": f"leave it out to save at each epoch; {_NO_SAVES}",
    "save_total_limit": f"leave it out to keep 4; {_NO_SAVES}",
    "eval_steps": 'leave it out to evaluate at each epoch; eval_strategy: "no" never does',
    "logging_steps": "leave it out for 0.5 % of the steps, from 1 to 10",
    "max_steps": "leave it out to train for num_epochs",
}
"""Key -> what to write instead of 0, which Axolotl takes as unset (in logging_steps it fails)."""
