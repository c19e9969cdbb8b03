"""Where rows come from: files and folders here or at an address, or a data set of a hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import glob, has_magic
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from axo.data.content import DataFile, readable
from axo.data.readers import READERS
from axo.data.rows import Row
from axo.data.source_folder import folder_files
from axo.data.source_hub import hub_rows, load_from_hub
from axo.data.source_kind import kind, plain_suffix
from axo.data.source_place import LocalFolder, is_file, nearby
from axo.data.source_selection import Piece, read_pieces, read_shard
from axo.errors import DataError
from axo.recipe.addresses import address_fault, scheme_of
from axo.recipe.split import HOW, parse_split

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""`data set` or `owner/data set`, as a hub names them."""


def read_rows(entry: DatasetEntry, *, seed: int = 42, skip: int = 0) -> Iterator[Row]:
    """The rows of a data set in their order, but for the first `skip`, which are not decoded where that can be helped.

    `seed` is the recipe's, of which `shards` makes use. DataError: a file is missing, not readable, not of its kind, or
    has no row; or nothing is selected. Where rows are selected or skipped, faults of the others may stay unseen.
    """
    names = expanded(entry)
    for one in names:
        if skip and len(names) > 1:
            num_rows = _num_rows(one)
            if skip >= num_rows:
                skip -= num_rows
                continue
        row = None
        for row in _rows(one, seed=seed, skip=skip):
            yield row
        if row is None and skip == 0:
            raise DataError(_why_nothing(one), "choose another split, slice or part", file=title(one))
        skip = 0


def expanded(entry: DatasetEntry) -> list[DatasetEntry]:
    """The data sets that an entry with a list of names stands for, in the order of the names."""
    if not isinstance(entry.name, list):
        return [entry]
    return [entry.model_copy(update={"name": name}) for name in entry.name]


def title(entry: DatasetEntry) -> str:
    """What reports call a data set: its path, and its configuration where it has one."""
    return f"{entry.path} ({entry.name})" if isinstance(entry.name, str) else entry.path


def source_identity(entry: DatasetEntry) -> list[tuple[Any, ...]]:
    """What holds the rows, in reading order: ("file", path) for each file here; ("remote", address, its kind and what
    changes with its content); or ("hub", name, the fingerprint of `datasets`), for which the data set is loaded; [] for
    rows that are made up."""
    if _is_made_up(entry):
        return []
    if _on_hub(entry):
        return [("hub", title(one), load_from_hub(one)._fingerprint) for one in expanded(entry)]
    return [
        ("file", file) if isinstance(file, Path) else ("remote", str(file), f"{kind(file, entry)} {file.identity()}")
        for file in _files(entry)
    ]


def selection(entry: DatasetEntry, *, seed: int) -> list[Any]:
    """Which of these rows are read, in words of JSON; [] for all of them. (A hub's data set is its split already.)"""
    said: list[Any] = []
    whole = _is_made_up(entry) or _on_hub(entry)
    pieces = [] if whole else [piece for one in expanded(entry) for piece in _pieces(one)]
    if any(piece.part.sliced for piece in pieces):
        said.append([[str(piece.part), len(piece.files)] for piece in pieces])
    if entry.shards is not None:
        said.append(["shards", entry.shards, entry.shards_idx or 0, seed])
    return said


def source_files(entry: DatasetEntry) -> list[Path]:
    """The local files of a data set in reading order; [] for a data set at an address or of a hub."""
    return [file for file in _files(entry) if isinstance(file, Path)]


def is_local(entry: DatasetEntry) -> bool:
    """Whether the path is on this machine. DataError where only a local path can be meant but nothing is there."""
    if _is_remote(entry):
        return False
    path = _path(entry)
    with readable(path):
        if path.exists() or _matches(path):
            return True
    if path.is_symlink():
        raise DataError(f"this links to {path.readlink()}, which is not there", "mend the link", file=entry.path)
    if has_magic(entry.path):
        raise DataError("no file matches this pattern", nearby(path), file=entry.path)
    if plain_suffix(path.name) in READERS or _HUB_NAME.fullmatch(entry.path) is None:
        raise DataError("there is no such file or folder", nearby(path), file=entry.path)
    return False


def _rows(entry: DatasetEntry, *, seed: int, skip: int) -> Iterator[Row]:
    if _on_hub(entry):
        return hub_rows(entry, seed=seed, skip=skip)
    pieces = _pieces(entry)
    if entry.shards is None:
        return read_pieces(pieces, skip=skip)
    return read_shard(pieces, shards=entry.shards, index=entry.shards_idx or 0, seed=seed, skip=skip)


def _why_nothing(entry: DatasetEntry) -> str:
    chosen = [f"split {entry.split!r}"] if "[" in entry.split else []
    if entry.shards is not None:
        chosen.append(f"part {entry.shards_idx or 0} of {entry.shards} shards")
    return f"there are no rows in {', '.join(chosen)}" if chosen else "the data set has no rows"


def _num_rows(entry: DatasetEntry) -> int:
    """Rows of one data set, in whatever order they come."""
    whole = len(load_from_hub(entry)) if _on_hub(entry) else sum(len(piece.rows) for piece in _pieces(entry))
    if entry.shards is None:
        return whole
    return whole // entry.shards + ((entry.shards_idx or 0) < whole % entry.shards)


def _is_made_up(entry: DatasetEntry) -> bool:
    """Whether the rows have no file, whatever the path says."""
    return entry.type == "_synthetic"


def _on_hub(entry: DatasetEntry) -> bool:
    return not _is_remote(entry) and not is_local(entry)


def _files(entry: DatasetEntry) -> list[Any]:
    if _is_made_up(entry) or _on_hub(entry):
        return []
    return [file for one in expanded(entry) for piece in _pieces(one) for file, _ in piece.files]


def _pieces(entry: DatasetEntry) -> list[Piece]:
    """The summands of the split with their files; each file's kind is known."""
    try:
        parts = parse_split(entry.split)
    except ValueError as error:
        raise DataError(f"split {entry.split!r}: {error}", HOW, file=entry.path) from None
    pieces: list[Piece] = []
    for part in parts:
        files = _of_split(entry, part.name)
        pieces.append(Piece(part, [(file, kind(file, entry)) for file in files]))
    return pieces


def _of_split(entry: DatasetEntry, split: str) -> list[DataFile]:
    if _is_remote(entry):
        # Imported here because few recipes read from an address.
        from axo.data.source_remote import find_remote

        found = find_remote(entry.path)
        return _single_files(entry, split, found) if isinstance(found, list) else folder_files(found, entry, split)
    path = _path(entry)
    if path.is_dir():
        return folder_files(LocalFolder(path), entry, split)
    files = [path] if path.exists() else _matches(path)
    if not all(is_file(file) for file in files):
        raise DataError("expected a file or a folder, found neither", "name a regular file", file=str(path))
    return _single_files(entry, split, files)


def _single_files(entry: DatasetEntry, split: str, files: list[Any]) -> list[DataFile]:
    """Files that are named are one split without parts. DataError where the entry asks for one."""
    what = "a single file" if len(files) == 1 else "a pattern of files"
    place = str(files[0]) if len(files) == 1 else entry.path
    if split != "train":
        raise DataError(f"{what} has no split {split!r}", "leave `split` out", file=place)
    if entry.name is not None:
        raise DataError(f"{what} has no configuration {entry.name!r}", "leave `name` out", file=place)
    if entry.data_files:
        raise DataError(f"{what} has no data_files in it", "name its folder as path, or leave them out", file=place)
    return files


def _is_remote(entry: DatasetEntry) -> bool:
    """DataError for an address that cannot be read."""
    scheme = scheme_of(entry.path)
    if scheme in (None, "file"):
        return False
    fault = None if scheme == "memory" else address_fault(entry.path)
    if fault is not None:
        raise DataError(*fault, file=entry.path)
    return True


def _path(entry: DatasetEntry) -> Path:
    if scheme_of(entry.path) == "file":
        return Path(unquote(urlsplit(entry.path).path))
    return Path(expanduser(entry.path))


def _matches(path: Path) -> list[Path]:
    """Files that a pattern such as `data/*.jsonl` matches, in the order of their names."""
    found = glob(str(path), recursive=True) if has_magic(str(path)) else []
    return [Path(name) for name in sorted(found) if not Path(name).is_dir()]
