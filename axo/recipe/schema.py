"""The language as a JSON schema, for editors and other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic.fields import FieldInfo

from axo.recipe.describe import spelt
from axo.recipe.documentation import sentence
from axo.recipe.recipe import SECTIONS, owner_of
from axo.recipe.renamed import EQUAL_NAMES, GONE, PREFIXES, RENAMED, SWITCHES, UNPREFIXED, VALUES
from axo.recipe.section import NoEffect, NotYet, Section, Supported, alternatives, mark, nested

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Every key with its type, range, meaning and default.

    What the schema allows is what the types allow, also what axo cannot run yet (its sentence says so); rules across
    keys are beyond a schema. A blank value is always allowed: it leaves the key unset."""
    blocks = {block.__name__: block for section in SECTIONS.values() for block in _blocks(section)}
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for section in SECTIONS.values():
        generated = section.model_json_schema()
        properties |= _properties(section, generated)
        definitions |= generated.get("$defs", {})
    for name, block in blocks.items():
        definitions[name] = {
            **definitions[name],
            "properties": _properties(block, definitions[name]) | _prefixed(block, definitions[name]["properties"]),
        }
        definitions[name].pop("description", None)
    return {
        "$schema": DIALECT,
        "title": "axo recipe",
        "description": "A fine-tuning recipe in Axolotl's language.",
        "type": "object",
        "properties": {**properties, **_other_names(properties)},
        "required": ["base_model", "learning_rate"],
        "anyOf": [{"required": ["datasets"]}, {"required": ["pretraining_dataset"]}],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def support_sentence(info: FieldInfo) -> str | None:
    """How far axo is with a key, or None where it works in full."""
    not_yet, supported, no_effect = mark(info, NotYet), mark(info, Supported), mark(info, NoEffect)
    if not_yet is not None:
        return "Not supported yet."
    if no_effect is not None:
        return f"No effect here: {no_effect.why}."
    if supported is None or all(choice in supported.values for choice in alternatives(info.annotation)):
        return None
    others = " and others like them" if supported.matching else ""
    return f"Supported so far: {', '.join(spelt(value) for value in supported.values)}{others}."


def _properties(section: type[Section], generated: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _property(section, key, info, generated["properties"][key]) for key, info in section.model_fields.items()
    }


def _property(section: type[Section], key: str, info: FieldInfo, generated: Mapping[str, Any]) -> dict[str, Any]:
    described = " ".join(part for part in (sentence(section, key), support_sentence(info)) if part)
    schema = {name: value for name, value in generated.items() if name not in ("title", "description")}
    default = schema.pop("default", None)
    values = {name: _without_titles(value) for name, value in schema.items()}
    allowed: list[Any] = values.pop("anyOf", None) or [values]
    if {"type": "null"} not in allowed:
        allowed = [*allowed, {"type": "null"}]
    if "no" in alternatives(info.annotation):
        allowed = [*allowed, {"const": False}]  # YAML 1.1 reads an unquoted `no` as false
    if said := [{"const": value} for name, value in VALUES if name == key]:
        allowed = [*allowed, *said]
    return {"description": described, "anyOf": allowed, **({} if default is None else {"default": default})}


def _other_names(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Other spellings, which editors then strike through."""
    names: dict[str, Any] = {}
    for name, key in RENAMED.items():
        own = properties[key]
        names[name] = own if name in EQUAL_NAMES else {**own, "description": f"Means {key}.", "deprecated": True}
    for name, (key, value) in SWITCHES.items():
        names[name] = {
            "description": f"`true` means {key}: {spelt(value)}.",
            "type": ["boolean", "null"],
            "deprecated": True,
        }
    gone = {key: hint for key, hint in GONE.items() if "." not in key}
    for name, hint in gone.items():
        names[name] = {"description": f"No key of axo: {hint}.", "enum": [None, False, 0, ""], "deprecated": True}
    return names


def _prefixed(block: type[Section], properties: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys with the prefix that a block allows."""
    for name, prefix in PREFIXES.items():
        owner = SECTIONS[owner_of(name) or ""]
        if nested(owner.model_fields[name].annotation) is block:
            own = _properties(block, {"properties": properties})
            return {f"{prefix}{key}": {**own[key], "deprecated": True} for key in own if key not in UNPREFIXED}
    return {}


def _blocks(section: type[Section]) -> Iterator[type[Section]]:
    for info in section.model_fields.values():
        inner = nested(info.annotation)
        if inner is not None:
            yield inner
            yield from _blocks(inner)


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        parts = cast("dict[str, Any]", schema)
        return {key: _without_titles(value) for key, value in parts.items() if key != "title"}
    return [_without_titles(item) for item in cast("list[Any]", schema)] if isinstance(schema, list) else schema
