"""Every local file that a recipe's data is made from, so that a change in any of them is seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import expanduser
from pathlib import Path

from axo.data.source import source_identity
from axo.errors import AxoError
from axo.plan.hub_cache import cached_file
from axo.recipe.data import DatasetEntry
from axo.recipe.recipe import Recipe

_TOKENIZER_SUFFIXES = frozenset({".json", ".jinja", ".model", ".txt", ".tiktoken"})


def files_behind(recipe: Recipe) -> list[Path] | None:
    """Files of the data sets, the tokenizer and chat templates; None where something else has a say as well: data at
    an address or on the hub, code of one's own, or anything that is not there."""
    data = recipe.data
    entries = [*data.datasets, *(data.test_datasets or [])]
    if recipe.model.trust_remote_code or any(entry.allow_custom_code for entry in entries):
        return None
    tokenizer = _tokenizer_files(recipe)
    try:
        rows = [file for entry in entries for file in _rows(entry)]
    except (AxoError, LookupError):
        return None
    return None if tokenizer is None else [*tokenizer, *_templates(recipe, entries), *rows]


def _rows(entry: DatasetEntry) -> Iterator[Path]:
    """The files of a data set. LookupError where it is not made of local files."""
    for place in source_identity(entry):
        if place[0] != "file":
            raise LookupError(entry.path)
        yield place[1]


def _tokenizer_files(recipe: Recipe) -> list[Path] | None:
    name = recipe.tokenizer.tokenizer_config or recipe.model.base_model
    folder = Path(expanduser(name))
    if not folder.is_dir():
        revision = None if recipe.tokenizer.tokenizer_config else recipe.model.revision_of_model
        if re.fullmatch("[0-9a-f]{40}", revision or "") is None:
            return None  # the hub may have a newer one than the cache
        known = cached_file(name, "tokenizer_config.json", revision=revision)
        if known is None:
            return None
        folder = known.parent
    return sorted(file for file in folder.rglob("*") if file.suffix in _TOKENIZER_SUFFIXES and file.is_file())


def _templates(recipe: Recipe, entries: list[DatasetEntry]) -> list[Path]:
    named = [recipe.tokenizer.chat_template_jinja, *(entry.chat_template_jinja for entry in entries)]
    paths = [Path(expanduser(text)) for text in named if text and "{" not in text and "\n" not in text]
    return [path for path in paths if path.is_file()]
