"""Checks of data sets and chat templates: the part of axo.recipe.rules that looks at each data set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.data import DatasetEntry
from axo.recipe.describe import found_text
from axo.recipe.recipe import Recipe
from axo.registry.registry import did_you_mean
from axo.registry.tables import DATASET_FORMATS

CHAT_TEMPLATES = ("tokenizer_default", "chatml", "llama3", "jinja")
"""Names that `chat_template` takes; `jinja` stands for chat_template_jinja."""


def chat_templates(recipe: Recipe) -> list[Finding]:
    """Templates that are not known, not given, or given twice."""
    section = recipe.tokenizer
    findings = list(_chat_template("", section.chat_template, section.chat_template_jinja))
    for key, entry in _entries(recipe):
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
    elif name in renamed.CHAT_TEMPLATES_NOT_YET or (name or "").startswith("tokenizer_default_fallback_"):
        yield Finding(key, f"{name!r} is not supported yet", f"supported: {', '.join(CHAT_TEMPLATES)}")
    elif name is not None:
        known = f"expected one of {', '.join(CHAT_TEMPLATES)}"
        yield Finding(key, f"found {found_text(name)}, {known}", did_you_mean(name, CHAT_TEMPLATES))


def _two_templates(prefix: str, name: str | None) -> Finding:
    message = f"{name!r} and chat_template_jinja both give a template"
    return Finding(f"{prefix}chat_template", message, "set chat_template: jinja, or remove chat_template_jinja")


def dataset_types(recipe: Recipe) -> list[Finding]:
    """`type:` strings that no format has."""
    known = [name for name in DATASET_FORMATS if name != "mapping"]
    findings: list[Finding] = []
    for key, entry in _entries(recipe):
        if entry.type is None:
            hint = f"say what a row is, one of {', '.join(known)}, or a mapping of field_* keys"
            findings.append(Finding(f"{key}.type", "this key is missing (rows of tokens are not supported yet)", hint))
        if not isinstance(entry.type, str) or entry.type in known:
            continue
        first = re.split(r"[.:]", entry.type)[0]
        if first in renamed.TYPES_GONE:
            findings.append(Finding(f"{key}.type", f"{entry.type!r} is no longer a type", renamed.TYPES_GONE[first]))
        elif first in renamed.TYPES_NOT_YET or (first in known and first != entry.type):
            hint = f"supported: {', '.join(known)} and a mapping of field_* keys"
            findings.append(Finding(f"{key}.type", f"{entry.type!r} is not supported yet", hint))
        else:
            message = f"found {found_text(entry.type)}, expected one of {', '.join(known)} or a mapping of field_* keys"
            findings.append(Finding(f"{key}.type", message, did_you_mean(entry.type, known)))
    return findings


def message_fields(recipe: Recipe) -> list[Finding]:
    """Short and long ways of naming a message's keys that contradict each other."""
    findings: list[Finding] = []
    for key, entry in _entries(recipe):
        mappings = entry.message_property_mappings or {}
        for name, short in (("role", entry.message_field_role), ("content", entry.message_field_content)):
            if short is not None and mappings.get(name, short) != short:
                message = f"{short!r}, but message_property_mappings.{name} is {mappings[name]!r}"
                findings.append(Finding(f"{key}.message_field_{name}", message, "keep one of the two"))
    return findings


def remarks(recipe: Recipe) -> list[str]:
    """Keys of a data set that its type does not read."""
    notes: list[str] = []
    for key, entry in _entries(recipe):
        kind = entry.type if isinstance(entry.type, str) else "a mapping"
        idle = [name for name in sorted(entry.model_fields_set) if _FORMAT_KEYS.get(name, kind) != kind]
        if idle:
            notes.append(f"{key}: {', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect with type: {kind}")
    return notes


def _entries(recipe: Recipe) -> Iterator[tuple[str, DatasetEntry]]:
    for name, entries in (("datasets", recipe.data.datasets), ("test_datasets", recipe.data.test_datasets or [])):
        for index, entry in enumerate(entries):
            yield f"{name}.{index}", entry


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
