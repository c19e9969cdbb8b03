"""Checks of data sets and chat templates: the part of axo.recipe.rules that looks at each data set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe import format_keys
from axo.recipe.addresses import scheme_of
from axo.recipe.data import DatasetEntry
from axo.recipe.data_lacks import (
    CHAT_TEMPLATES,
    PREFERENCE_TYPES,
    entries,
    is_chat_template,
    is_compared,
    lacking_type,
)
from axo.recipe.data_types import type_fault
from axo.recipe.describe import found_text
from axo.recipe.recipe import Recipe
from axo.recipe.remark import Note, Remark
from axo.recipe.section import Section
from axo.recipe.split import HOW, parse_split
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


def template_variables(recipe: Recipe) -> list[Finding]:
    """Variables of a chat template that a conversation itself gives."""
    taken = {"messages", "tools", "add_generation_prompt"} & (recipe.tokenizer.chat_template_kwargs or {}).keys()
    return [
        Finding(f"chat_template_kwargs.{name}", "each conversation gives this variable itself", "take it out")
        for name in sorted(taken)
    ]


def _chat_template(prefix: str, name: str | None, text: str | None) -> Iterator[Finding]:
    key = f"{prefix}chat_template"
    if name == "jinja" and not text:
        yield Finding(key, "'jinja' needs chat_template_jinja", "give the template's text or file there")
    elif name is not None and is_chat_template(name):
        if text and name != "jinja":
            yield _two_templates(prefix, name)
    elif name is not None:
        message = f"found {found_text(name)}, expected tokenizer_default, jinja or the name of a template of axo"
        known = f"known: {', '.join(CHAT_TEMPLATES)}"
        yield Finding(key, message, did_you_mean(name, CHAT_TEMPLATES) or known)


def _two_templates(prefix: str, name: str | None) -> Finding:
    message = f"{name!r} and chat_template_jinja both give a template"
    return Finding(f"{prefix}chat_template", message, "set chat_template: jinja, or remove chat_template_jinja")


def dataset_types(recipe: Recipe) -> list[Finding]:
    """`type:` strings that no format has, here or in Axolotl."""
    if recipe.preferences.objective is not None:
        return []
    findings: list[Finding] = []
    for key, entry in entries(recipe):
        if isinstance(entry.type, str) and lacking_type(entry.type) is not None:
            continue
        fault = type_fault(entry, others=PREFERENCE_TYPES)
        if fault is not None:
            findings.append(Finding(f"{key}.type", *fault))
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
    """An empty list of roles trains the last answer; with other rules beside it, only what these name is trained."""
    if recipe.data.train_on_inputs or is_compared(recipe):
        return []
    hint = "leave it out to train the assistant, or set train_on_inputs: true to train every role"
    return [
        Finding(f"{key}.roles_to_train", "the list is empty: no role is trained", hint)
        for key, entry in entries(recipe)
        if entry.roles_to_train == []
        and reads(entry, "roles_to_train")
        and not (entry.message_field_training or entry.message_field_training_detail)
        and not (entry.train_on_eos is None and entry.train_on_eot is None)
        and not {entry.train_on_eos, entry.train_on_eot} & {"all", "last"}
    ]


def local_splits(recipe: Recipe) -> list[Finding]:
    """Splits that nothing can have, and those that a file cannot: it is one split, the whole of it."""
    findings: list[Finding] = []
    for key, entry in entries(recipe):
        try:
            parts = parse_split(entry.split)
        except ValueError as error:
            findings.append(Finding(f"{key}.split", str(error), HOW))
            continue
        others = [part.name for part in parts if part.name != "train"]
        if others and names_file(entry.path):
            message = f"found {found_text(entry.split)}: a single file has no such split"
            findings.append(Finding(f"{key}.split", message, "leave split out"))
    return findings


def names(recipe: Recipe) -> list[Finding]:
    """A list of names without any stands for no data set at all."""
    return [
        Finding(f"{key}.name", "the list of names is empty", "leave it out, or name one")
        for key, entry in entries(recipe)
        if entry.name == []
    ]


def names_file(path: str) -> bool:
    """Whether a path can only mean one data file on this machine."""
    return DATA_FILE.search(path) is not None and scheme_of(path) is None and not set(path) & set("*?[")


def remarks(recipe: Recipe) -> list[Note]:
    """Keys of a data set that its type does not read."""
    if is_compared(recipe):
        return []
    notes: list[Note] = [*_overruled(recipe)]
    for key, entry in entries(recipe):
        idle = [name for name in sorted(entry.model_fields_set) if not format_keys.reads(entry, name)]
        if idle:
            notes.append(Remark(tuple(f"{key}.{name}" for name in idle), _with_type(entry)))
        if entry.type is None:
            notes.append(f"{key} has no type: its rows must be tokenised already (input_ids, attention_mask, labels)")
    return notes


def reads(section: Section, key: str) -> bool:
    """Whether a data set of this type reads `key`; of all else every key is read."""
    return format_keys.reads(section, key) if isinstance(section, DatasetEntry) else True


def _with_type(entry: DatasetEntry) -> str:
    if entry.type is None:
        return "without type"
    return f"with type: {entry.type if isinstance(entry.type, str) else 'a mapping'}"


def _overruled(recipe: Recipe) -> list[Remark]:
    """roles_to_train where train_on_inputs trains all roles."""
    if not recipe.data.train_on_inputs:
        return []
    given = [key for key, entry in entries(recipe) if entry.roles_to_train]
    return [Remark((f"{key}.roles_to_train",), "train_on_inputs trains every role") for key in given]


DATA_FILE = re.compile(r"\.(json|jsonl|csv|tsv|parquet|arrow|txt)(\.gz|\.zst)?$")
