"""Which files of a folder are a data set: those of its kind and its split, in the order of their names."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from axo.data.content import DataFile
from axo.data.readers import READERS
from axo.data.source_kind import KIND_OF_DS_TYPE, plain_suffix
from axo.data.source_place import Folder, instead, listed
from axo.data.source_saved import saved_files
from axo.errors import DataError
from axo.registry.registry import did_you_mean

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in a file's name (or its folder's) that say which split it holds, as `datasets` reads them."""


def folder_files(folder: Folder, entry: DatasetEntry, split: str) -> list[DataFile]:
    """The files of one whole split. DataError where there is none."""
    if isinstance(entry.name, str):
        folder = _configuration(folder, entry.name)
    if entry.data_files:
        if split != "train":
            message, hint = f"the files of data_files have no split {split!r}", "leave `split` out: they are all of it"
            raise DataError(message, hint, file=str(folder))
        return _named_files(folder, entry.data_files)
    saved = saved_files(folder, split)
    if saved is not None:
        return saved
    return [folder.file(name) for name in _loose_files(folder, entry, split)]


def _configuration(folder: Folder, name: str) -> Folder:
    """The sub-folder that is called as the configuration: of a folder nothing else can be meant by a name."""
    names = sorted({file.split("/")[0] for file in folder.files() if "/" in file})
    if name in names:
        return folder.folder(name)
    there = f"it has the folders {listed(names)}" if names else "it has no folders"
    hint = f"{did_you_mean(name, names) or 'leave `name` out'}; {there}"
    raise DataError(f"this folder has no configuration {name!r}: no folder of that name", hint, file=str(folder))


def _named_files(folder: Folder, data_files: str | list[str]) -> list[DataFile]:
    names: list[str] = []
    for pattern in [data_files] if isinstance(data_files, str) else data_files:
        try:
            found = folder.matching(pattern)
        except ValueError:  # an absolute path, or ** inside a name
            message = f"data_files {pattern!r} is no pattern of names below the folder"
            raise DataError(message, 'as in "part-*.jsonl" or "2024/*.jsonl"', file=str(folder)) from None
        if not found:
            hint = instead(pattern, list(folder.entries()), str(folder))
            raise DataError(f"no file matches data_files {pattern!r}", hint, file=str(folder))
        names += [name for name in found if name not in names]
    return [folder.file(name) for name in names]


def _loose_files(folder: Folder, entry: DatasetEntry, split: str) -> list[str]:
    """Files of one kind that lie in a folder and below it, those of the split."""
    names = [name for name in folder.files() if plain_suffix(name) in READERS]
    if not names:
        there = folder.entries()
        message = f"no data file in this folder (known: {', '.join(READERS)}, and each with .gz or .zst)"
        raise DataError(message, f"it has {listed(there)}" if there else "it is empty", file=str(folder))
    kinds = Counter(plain_suffix(name) for name in names)
    if entry.ds_type is not None:
        wanted = {"json": (".json", ".jsonl"), "csv": (".csv", ".tsv")}.get(entry.ds_type, ())
        wanted = wanted or (KIND_OF_DS_TYPE.get(entry.ds_type, ""),)
        names = [name for name in names if plain_suffix(name) in wanted]
        if not names:
            message = f"no file of ds_type {entry.ds_type!r} in this folder"
            raise DataError(message, f"it has {listed(folder.entries())}", file=str(folder))
    elif len(kinds) > 1:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
        raise DataError(f"several kinds of files: {counts}", "choose with ds_type or data_files", file=str(folder))
    return _of_split(folder, names, split)


def _of_split(folder: Folder, names: list[str], split: str) -> list[str]:
    named = {name: _split_of(name) for name in names}
    if split == "train" and not any(named.values()):
        return names
    chosen = [name for name, its in named.items() if its == split]
    if not chosen:
        there = sorted({its or "no split in its name" for its in named.values()})
        raise DataError(f"no file of split {split!r} in this folder", f"found: {', '.join(there)}", file=str(folder))
    return chosen


def _split_of(name: str) -> str | None:
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, names in _SPLIT_NAMES.items() if any(word in words for word in names)), None)
