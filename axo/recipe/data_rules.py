"""Checks of data sets and chat templates: the part of axo.recipe.rules that looks at each data set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.data import DatasetEntry
from axo.recipe.data_lacks import (
    CHAT_TEMPLATES,
    KNOWN_TYPES,
    entries,
    first_word,
    is_template_to_come,
    lacking_type,
)
from axo.recipe.describe import found_text
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.section import Section
from axo.registry.registry import did_you_mean


def chat_templates(recipe: Recipe) -> list[Finding]:
    """Templates that are not known, not given, or given twice."""
    section = recipe.tokenizer
    findings = list(_chat_template("", section.chat_template, section.chat_template_jinja))
    for key, entry in entries(recipe):
        # A data set may say `jinja` and leave the text to the recipe.
        text = entry.chat_template_jinja or section.chat_template_jinja
        findings.extend(
            _chat_template(f"{key}.", entry.chat_template, text if entry.chat_template == "jinja" else None)
        )
        if entry.chat_template_jinja and entry.chat_template not in (None, "jinja"):
            findings.append(_two_templates(f"{key}.", entry.chat_template))
    return findings


def _chat_template(prefix: str, name: str | None, text: str | None) -> Iterator[Finding]:
    key = f"{prefix}chat_template"
    if name == "jinja" and not text:
        yield Finding(key, "'jinja' needs chat_template_jinja", "give the template's text or file there")
    elif name is not None and name in CHAT_TEMPLATES:
        if text and name != "jinja":
            yield _two_templates(prefix, name)
    elif name is not None and not is_template_to_come(name):
        known = f"expected one of {', '.join(CHAT_TEMPLATES)}"
        yield Finding(key, f"found {found_text(name)}, {known}", did_you_mean(name, CHAT_TEMPLATES))


def _two_templates(prefix: str, name: str | None) -> Finding:
    message = f"{name!r} and chat_template_jinja both give a template"
    return Finding(f"{prefix}chat_template", message, "set chat_template: jinja, or remove chat_template_jinja")


def dataset_types(recipe: Recipe) -> list[Finding]:
    """`type:` strings that no format has, here or in Axolotl."""
    findings: list[Finding] = []
    for key, entry in entries(recipe):
        kind = entry.type
        if not isinstance(kind, str) or kind in KNOWN_TYPES or lacking_type(kind) is not None:
            continue
        gone = renamed.TYPES_GONE.get(first_word(kind))
        if gone is not None:
            findings.append(Finding(f"{key}.type", f"{kind!r} is no longer a type", gone))
        else:
            expected = f"expected one of {', '.join(KNOWN_TYPES)} or a mapping of field_* keys"
            message = f"found {found_text(kind)}, {expected}"
            findings.append(Finding(f"{key}.type", message, did_you_mean(kind, KNOWN_TYPES)))
    return findings


def message_fields(recipe: Recipe) -> list[Finding]:
    """Short and long ways of naming a message's keys that contradict each other."""
    findings: list[Finding] = []
    for key, entry in entries(recipe):
        mappings = entry.message_property_mappings or {}
        for name, short in (("role", entry.message_field_role), ("content", entry.message_field_content)):
            if short is not None and mappings.get(name, short) != short:
                message = f"{short!r}, but message_property_mappings.{name} is {mappings[name]!r}"
                findings.append(Finding(f"{key}.message_field_{name}", message, "keep one of the two"))
    return findings


def trained_roles(recipe: Recipe) -> list[Finding]:
    """An empty list of roles leaves something to train only where the data's own flags or the ends of turns say so."""
    if recipe.data.train_on_inputs:
        return []
    hint = "leave it out to train the assistant, or set train_on_inputs: true to train every role"
    return [
        Finding(f"{key}.roles_to_train", "the list is empty: no role is trained", hint)
        for key, entry in entries(recipe)
        if entry.roles_to_train == []
        and reads(entry, "roles_to_train")
        and not (entry.message_field_training or entry.message_field_training_detail)
        and entry.train_on_eos not in ("all", "last")
    ]


def local_splits(recipe: Recipe) -> list[Finding]:
    """A single file is one split, the whole of it."""
    return [
        Finding(f"{key}.split", f"found {found_text(entry.split)}: a single file has no such split", "leave split out")
        for key, entry in entries(recipe)
        if entry.split != "train" and DATA_FILE.search(entry.path) and "://" not in entry.path
    ]


def remarks(recipe: Recipe) -> list[Note]:
    """Keys of a data set that its type does not read."""
    notes: list[Note] = [*_overruled(recipe)]
    for key, entry in entries(recipe):
        kind = entry.type if isinstance(entry.type, str) else "a mapping"
        if lacking_type(kind) is not None:
            continue
        idle = [name for name in sorted(entry.model_fields_set) if _FORMAT_KEYS.get(name, kind) != kind]
        if idle:
            notes.append(Remark(tuple(f"{key}.{name}" for name in idle), f"with type: {kind}"))
    return notes


def reads(section: Section, key: str) -> bool:
    """Whether a data set of this type reads `key`; of all else every key is read."""
    if not isinstance(section, DatasetEntry):
        return True
    kind = section.type if isinstance(section.type, str) else "a mapping"
    return _FORMAT_KEYS.get(key, kind) == kind


def _overruled(recipe: Recipe) -> list[Remark]:
    """roles_to_train where train_on_inputs trains all roles."""
    if not recipe.data.train_on_inputs:
        return []
    given = [key for key, entry in entries(recipe) if entry.roles_to_train]
    return [Remark((f"{key}.roles_to_train",), "train_on_inputs trains every role") for key in given]


DATA_FILE = re.compile(r"\.(json|jsonl|csv|parquet|txt)$")
_FORMAT_KEYS = {
    "field": "completion",
    **dict.fromkeys(
        (
            "field_messages",
            "field_system",
            "field_tools",
            "message_field_role",
            "message_field_content",
            "message_property_mappings",
            "message_field_training",
            "roles",
            "roles_to_train",
            "train_on_eos",
            "drop_system_message",
            "chat_template",
            "chat_template_jinja",
        ),
        "chat_template",
    ),
}
"""Key of a data set -> the only type that reads it."""
