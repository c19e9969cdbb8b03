"""What a data set may ask for in Axolotl and axo does not have yet: types, chat templates, places."""

from __future__ import annotations

import re
from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe import renamed
from axo.recipe.data import DatasetEntry
from axo.recipe.recipe import Recipe
from axo.registry.registry import did_you_mean
from axo.registry.tables import DATASET_FORMATS

KNOWN_TYPES = tuple(name for name in DATASET_FORMATS if name != "mapping")
CHAT_TEMPLATES = ("tokenizer_default", "chatml", "llama3", "jinja")
"""Names that `chat_template` takes; `jinja` stands for chat_template_jinja."""


def lacks(recipe: Recipe) -> list[Finding]:
    """All of them, as findings."""
    return [finding for one in (_templates, _types, _names, _addresses) for finding in one(recipe)]


def lacking_type(kind: str) -> str | None:
    """Why a `type:` that Axolotl knows cannot be had yet; None for a type of axo, and for one that nobody knows."""
    first = first_word(kind)
    if kind in KNOWN_TYPES or first in renamed.TYPES_GONE:
        return None
    if first in renamed.TYPES_NOT_YET or first in KNOWN_TYPES:
        return f"{kind!r} is not supported yet"
    if "." in kind and did_you_mean(first, KNOWN_TYPES) is None:
        return f"{kind!r} is not supported yet: code of your own that reads rows"
    return None


def is_template_to_come(name: str) -> bool:
    return name in renamed.CHAT_TEMPLATES_NOT_YET or name.startswith("tokenizer_default_fallback_")


def first_word(kind: str) -> str:
    """`chat_template` of `chat_template.argilla`: the family of a type."""
    return re.split(r"[.:]", kind)[0]


def entries(recipe: Recipe) -> Iterator[tuple[str, DatasetEntry]]:
    """Every data set to train or evaluate on, with its place."""
    for name, given in (("datasets", recipe.data.datasets), ("test_datasets", recipe.data.test_datasets or [])):
        for index, entry in enumerate(given):
            yield f"{name}.{index}", entry


def _templates(recipe: Recipe) -> Iterator[Finding]:
    named = [("chat_template", recipe.tokenizer.chat_template)]
    named += [(f"{key}.chat_template", entry.chat_template) for key, entry in entries(recipe)]
    for key, name in named:
        if name is not None and is_template_to_come(name):
            hint = f"supported: {', '.join(CHAT_TEMPLATES)}; or give the template as chat_template_jinja"
            yield Finding(key, f"{name!r} is not supported yet", hint)


def _types(recipe: Recipe) -> Iterator[Finding]:
    supported = f"{', '.join(KNOWN_TYPES)} and a mapping of field_* keys"
    for key, entry in entries(recipe):
        if entry.type is None:
            message = "this key is missing (rows of tokens, and pairs for preferences, are not supported yet)"
            yield Finding(f"{key}.type", message, f"say what a row is; supported: {supported}")
        elif isinstance(entry.type, str) and (why := lacking_type(entry.type)) is not None:
            yield Finding(f"{key}.type", why, f"supported: {supported}")


def _names(recipe: Recipe) -> Iterator[Finding]:
    """A list of names stands for several data sets."""
    for key, entry in entries(recipe):
        if isinstance(entry.name, list):
            yield Finding(f"{key}.name", "a list of names is not supported yet", "write a data set for each name")


def _addresses(recipe: Recipe) -> list[Finding]:
    """Data is on this machine or on the hub: rows of an address can neither be mapped nor hashed."""
    findings: list[Finding] = []
    streamed = [(f"pretraining_dataset.{at}", entry) for at, entry in enumerate(recipe.data.pretraining_dataset or [])]
    for key, entry in [*entries(recipe), *streamed]:
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


_HUB_PAGE = re.compile(
    r"(https?://(www\.)?(huggingface\.co|hf\.co)/datasets/|hf://(datasets/)?)(?P<name>[\w.-]+/[\w.-]+)(/.*)?"
)
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
