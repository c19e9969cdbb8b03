"""Checks of data sets and chat templates: the part of axo.recipe.rules that looks at each data set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.data import DatasetEntry
from axo.recipe.describe import found_text
from axo.recipe.recipe import Recipe
from axo.recipe.section import Section
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
        elif "." in entry.type and did_you_mean(first, known) is None:
            message = f"{entry.type!r} is not supported yet: code of your own that reads rows"
            hint = "write the rows for one of the types that axo has, or use a mapping of field_* keys"
            findings.append(Finding(f"{key}.type", message, hint))
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


def addresses(recipe: Recipe) -> list[Finding]:
    """Data is on this machine or on the hub: rows of an address can neither be mapped nor hashed."""
    findings: list[Finding] = []
    streamed = [(f"pretraining_dataset.{at}", entry) for at, entry in enumerate(recipe.data.pretraining_dataset or [])]
    for key, entry in [*_entries(recipe), *streamed]:
        places = [(f"{key}.path", entry.path)]
        if isinstance(entry.data_files, str):
            places.append((f"{key}.data_files", entry.data_files))
        else:
            places += [(f"{key}.data_files.{index}", name) for index, name in enumerate(entry.data_files or [])]
        findings += [finding for place, text in places for finding in _address(place, text)]
    return findings


def _address(key: str, text: str) -> Iterator[Finding]:
    scheme, mark, _ = text.strip().partition("://")
    if not mark:
        return
    hub = _HUB_PAGE.fullmatch(text.strip())
    if hub is not None:
        yield Finding(key, f"found an address ({scheme}://) of the hub", f"give the name alone: {hub['name']}")
    elif scheme == "file":
        yield Finding(key, "found an address (file://)", "give the path alone")
    else:
        how = _DOWNLOADS.get(scheme.lower(), "download it, and give its file or folder")
        message = f"found an address ({scheme[:12]}://), expected a file, a folder or a name on the hub"
        yield Finding(key, message, how)


def local_splits(recipe: Recipe) -> list[Finding]:
    """A single file is one split, the whole of it."""
    return [
        Finding(f"{key}.split", f"found {found_text(entry.split)}: a single file has no such split", "leave split out")
        for key, entry in _entries(recipe)
        if entry.split != "train" and _DATA_FILE.search(entry.path) and "://" not in entry.path
    ]


def remarks(recipe: Recipe) -> list[str]:
    """Keys of a data set that its type does not read."""
    notes = _overruled(recipe)
    for key, entry in _entries(recipe):
        kind = entry.type if isinstance(entry.type, str) else "a mapping"
        idle = [name for name in sorted(entry.model_fields_set) if _FORMAT_KEYS.get(name, kind) != kind]
        if idle:
            notes.append(f"{key}: {', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect with type: {kind}")
    return notes


def reads(section: Section, key: str) -> bool:
    """Whether a data set of this type reads `key`; of all else every key is read."""
    if not isinstance(section, DatasetEntry):
        return True
    kind = section.type if isinstance(section.type, str) else "a mapping"
    return _FORMAT_KEYS.get(key, kind) == kind


def _overruled(recipe: Recipe) -> list[str]:
    """roles_to_train where train_on_inputs trains all roles."""
    if not recipe.data.train_on_inputs:
        return []
    given = [key for key, entry in _entries(recipe) if entry.roles_to_train]
    return [f"{key}.roles_to_train has no effect: train_on_inputs trains every role" for key in given]


def _entries(recipe: Recipe) -> Iterator[tuple[str, DatasetEntry]]:
    for name, entries in (("datasets", recipe.data.datasets), ("test_datasets", recipe.data.test_datasets or [])):
        for index, entry in enumerate(entries):
            yield f"{name}.{index}", entry


_HUB_PAGE = re.compile(
    r"(https?://(www\.)?(huggingface\.co|hf\.co)/datasets/|hf://(datasets/)?)(?P<name>[\w.-]+/[\w.-]+)(/.*)?"
)
_DATA_FILE = re.compile(r"\.(json|jsonl|csv|parquet|txt)$")
_DOWNLOADS = {
    "s3": "download it (aws s3 cp --recursive), and give the folder",
    **dict.fromkeys(("gs", "gcs"), "download it (gcloud storage cp --recursive), and give the folder"),
    **dict.fromkeys(
        ("az", "adl", "abfs", "abfss"), "download it (az storage blob download-batch), and give the folder"
    ),
    "oci": "download it (oci os object bulk-download), and give the folder",
    **dict.fromkeys(("http", "https"), "download it (curl -LO), and give the file"),
}
"""Scheme of an address -> how to have the data here."""
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
