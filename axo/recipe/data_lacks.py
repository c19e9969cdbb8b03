"""What a data set may ask for in Axolotl and axo does not have yet: types, chat templates, places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.addresses import address_fault, scheme_of
from axo.recipe.data import DatasetEntry
from axo.recipe.data_types import FAMILIES, KNOWN_TYPES, first_word
from axo.recipe.recipe import Recipe
from axo.registry import tables
from axo.registry.tables import PREFERENCE_FAMILIES, PREFERENCE_FORMATS

__all__ = [
    "CHAT_TEMPLATES",
    "KNOWN_TYPES",
    "PREFERENCE_TYPES",
    "entries",
    "first_word",
    "is_chat_template",
    "is_compared",
    "lacking_type",
    "lacks",
]

PREFERENCE_TYPES = frozenset(name for formats in PREFERENCE_FORMATS.values() for name in formats) - {
    "columns",
    "mapping",
}
CHAT_TEMPLATES = ("tokenizer_default", "jinja", *tables.CHAT_TEMPLATES)
"""Names that `chat_template` takes; `jinja` stands for chat_template_jinja."""
FALLBACK = "tokenizer_default_fallback_"
"""What goes before a name that is used where the tokenizer has no template of its own."""


def lacks(recipe: Recipe) -> list[Finding]:
    """All of them, as findings."""
    return [finding for one in (_types, _addresses) for finding in one(recipe)]


def lacking_type(kind: str) -> str | None:
    """Why a `type:` that Axolotl knows cannot be had yet; None for a type of axo, and for one that nobody knows."""
    return f"{kind!r} is not supported yet" if first_word(kind) in renamed.TYPES_NOT_YET else None


def is_chat_template(name: str) -> bool:
    """Whether a recipe may say `chat_template: name`."""
    return name in CHAT_TEMPLATES or (
        name.startswith(FALLBACK) and name.removeprefix(FALLBACK) in tables.CHAT_TEMPLATES
    )


def is_compared(recipe: Recipe) -> bool:
    """Whether the answers in the data are compared or judged; preference_data_rules looks at the types then."""
    return recipe.preferences.objective in PREFERENCE_FAMILIES


def entries(recipe: Recipe) -> Iterator[tuple[str, DatasetEntry]]:
    """Every data set to train or evaluate on, with its place; without plain text where answers are compared, which a
    rule refuses as a whole."""
    data = recipe.data
    named: tuple[tuple[str, Sequence[DatasetEntry] | None], ...] = (
        ("datasets", data.datasets),
        ("test_datasets", data.test_datasets),
        ("pretraining_dataset", data.pretraining_dataset if recipe.preferences.objective is None else None),
    )
    for name, given in named:
        for index, entry in enumerate(given or ()):
            yield f"{name}.{index}", entry


def _types(recipe: Recipe) -> Iterator[Finding]:
    if recipe.preferences.objective is not None:
        return
    for key, entry in entries(recipe):
        if isinstance(entry.type, str) and (why := lacking_type(entry.type)) is not None:
            yield Finding(f"{key}.type", why, f"supported: {', '.join(FAMILIES)} and a mapping of field_* keys")


def _addresses(recipe: Recipe) -> list[Finding]:
    """Addresses that neither a client of an object store nor https reads."""
    findings: list[Finding] = []
    for key, entry in entries(recipe):
        if isinstance(entry.data_files, str):
            inside = [(f"{key}.data_files", entry.data_files)]
        else:
            inside = [(f"{key}.data_files.{index}", name) for index, name in enumerate(entry.data_files or [])]
        faults = [(f"{key}.path", address_fault(entry.path))]
        faults += [(place, _inside_fault(name)) for place, name in inside]
        findings += [Finding(place, *fault) for place, fault in faults if fault is not None]
    return findings


def _inside_fault(name: str) -> tuple[str, str] | None:
    if scheme_of(name) is None:
        return None
    return f"found an address ({scheme_of(name)}://), expected names inside `path`", "give the address as path"
