"""Folders that `save_to_disk` of `datasets` wrote: a description in JSON, and the rows as Arrow files."""

from __future__ import annotations

import json
from typing import Any

from axo.data.content import DataFile, readable
from axo.data.source_place import Folder, listed
from axo.errors import DataError
from axo.registry.registry import did_you_mean

SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""Beside the files of a data set; and above the folders of several splits."""


def saved_files(folder: Folder, split: str) -> list[DataFile] | None:
    """The files of a split in their order; None where nothing was saved here.

    DataError: another split was saved, or files are missing.
    """
    names = set(folder.files())
    if SAVED_SPLITS in names:
        return _of_one_split(folder, split)
    return _of_data_set(folder, split) if SAVED in names else None


def _of_one_split(folder: Folder, split: str) -> list[DataFile]:
    """The files of one split of a `DatasetDict` that was saved."""
    splits = _list_of_texts(_description(folder, SAVED_SPLITS).get("splits"), folder, SAVED_SPLITS, "splits")
    if split not in splits:
        hint = f"{did_you_mean(split, splits) or 'choose one of them'}; it has {', '.join(splits) or 'none'}"
        raise DataError(f"no split {split!r} was saved in this folder", hint, file=str(folder))
    return _of_data_set(folder.folder(split), None)


def _of_data_set(folder: Folder, split: str | None) -> list[DataFile]:
    """The files of a `Dataset` that was saved, in their order. A set that says no split is `train`."""
    state = _description(folder, SAVED)
    its = state.get("_split") or "train"
    if split not in (None, "train", its):
        hint = f"it was saved as {its!r}: leave `split` out"
        raise DataError(f"no split {split!r} was saved in this folder", hint, file=str(folder))
    given = state.get("_data_files")
    files = (
        [one.get("filename") if isinstance(one, dict) else None for one in given] if isinstance(given, list) else None
    )
    names = _list_of_texts(files, folder, SAVED, "_data_files")
    missing = sorted(set(names) - set(folder.files()))
    if missing:
        hint = "copy the folder again; state.json names all of its files"
        raise DataError(f"{len(missing)} of {len(names)} files are missing: {listed(missing)}", hint, file=str(folder))
    return [folder.file(name) for name in names]


def _description(folder: Folder, name: str) -> dict[str, Any]:
    file = folder.file(name)
    try:
        with readable(file), file.open("rb") as content:
            value = json.loads(content.read())
    except ValueError as error:
        raise DataError(f"broken JSON: {error}", "save the data set again", file=str(file)) from None
    if not isinstance(value, dict):
        raise DataError("expected an object {...}", "save the data set again", file=str(file))
    return value


def _list_of_texts(value: Any, folder: Folder, file: str, field: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        place = str(folder.file(file))
        raise DataError("expected the list that `datasets` writes", "save the data set again", file=place, field=field)
    return value
