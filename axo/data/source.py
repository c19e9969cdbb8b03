"""Where rows come from: a local file, a folder of files, or a data set of a hub."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axo.data.content import readable
from axo.data.readers import READERS
from axo.data.rows import Row
from axo.errors import DataError
from axo.registry.registry import did_you_mean

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""`data set` or `owner/data set`, as a hub names them."""
_KIND_OF_DS_TYPE = {"csv": ".csv", "parquet": ".parquet"}
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in a file's name (or its folder's) that say which split it holds, as `datasets` reads them."""


def read_rows(entry: DatasetEntry) -> Iterator[Row]:
    """All rows of a data set in their order.

    DataError: a file is missing, not readable, not of its kind, or has no row.
    """
    if not is_local(entry):
        yield from _number_rows(load_from_hub(entry), entry.path)
        return
    for file in source_files(entry):
        count = 0
        for row in READERS[kind(file, entry)](file):
            count += 1
            yield row
        if count == 0:
            message = "the file is empty" if file.stat().st_size == 0 else "the file has no rows"
            raise DataError(message, "write rows into it, or take it out of the data set", file=str(file))


def source_files(entry: DatasetEntry) -> list[Path]:
    """The local files of a data set in reading order; [] for a data set of a hub."""
    if not is_local(entry):
        return []
    path = Path(expanduser(entry.path))
    _check_plain_split(entry)
    if path.is_file():
        if entry.split != "train":
            raise DataError(f"a single file has no split {entry.split!r}", "leave `split` out", file=str(path))
        files = [path]
    elif not path.is_dir():
        raise DataError("expected a file or a folder, found neither", "name a regular file", file=str(path))
    else:
        files = _named_files(path, entry) if entry.data_files else _folder_files(path, entry)
    for file in files:
        kind(file, entry)
    return files


def is_local(entry: DatasetEntry) -> bool:
    """Whether the path is on this machine. DataError where only a local path can be meant but nothing is there."""
    path = Path(expanduser(entry.path))
    with readable(path):
        if path.exists():
            return True
    if path.is_symlink():
        raise DataError(f"this links to {path.readlink()}, which is not there", "mend the link", file=entry.path)
    if "://" in entry.path:
        raise DataError("an address cannot be read", "download the data and name its file or folder", file=entry.path)
    if path.suffix in READERS or _HUB_NAME.fullmatch(entry.path) is None:
        raise DataError("there is no such file or folder", _nearby(path), file=entry.path)
    return False


def kind(file: Path, entry: DatasetEntry) -> str:
    """Which reader reads this file: by its name, else by `ds_type`."""
    if entry.ds_type in _KIND_OF_DS_TYPE:
        return _KIND_OF_DS_TYPE[entry.ds_type]
    if entry.ds_type == "json":
        return ".jsonl" if file.suffix == ".jsonl" else ".json"
    if file.suffix not in READERS:
        raise DataError(
            f"unknown kind of file {file.suffix or file.name!r}",
            f"expected one of {', '.join(READERS)}, or set ds_type to json, csv or parquet",
            file=str(file),
        )
    return file.suffix


def load_from_hub(entry: DatasetEntry) -> Any:
    """The split of a hub's data set as a `datasets.Dataset`. DataError where it cannot be loaded."""
    import datasets
    from datasets.exceptions import DatasetsError

    if isinstance(entry.name, list):
        message = "a list of names cannot be read as one data set"
        raise DataError(message, "write a data set for each name", file=entry.path)
    try:
        return datasets.load_dataset(
            entry.path, name=entry.name, data_files=entry.data_files, split=entry.split, revision=entry.revision
        )
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise DataError(
            f"no such file or folder here, and loading it as a hub data set failed: {first_line}",
            f"{_nearby(Path(entry.path))}; for a hub data set check path, name, split and revision, and the network",
            file=entry.path,
        ) from error


def _number_rows(dataset: Any, name: str) -> Iterator[Row]:
    number = 0
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        for values in batch.to_pylist():
            number += 1
            yield Row(values, name, number)
    if number == 0:
        raise DataError("the data set has no rows", "choose another split or data set", file=name)


def _named_files(folder: Path, entry: DatasetEntry) -> list[Path]:
    patterns = [entry.data_files] if isinstance(entry.data_files, str) else entry.data_files or []
    files: list[Path] = []
    for pattern in patterns:
        try:
            found = sorted(file for file in folder.glob(pattern) if _is_file(file))
        except (ValueError, NotImplementedError):  # an absolute path, or ** inside a name
            message = f"data_files {pattern!r} is no pattern of names below the folder"
            raise DataError(message, 'as in "part-*.jsonl" or "2024/*.jsonl"', file=str(folder)) from None
        if not found:
            raise DataError(f"no file matches data_files {pattern!r}", _nearby(folder / pattern), file=str(folder))
        files += [file for file in found if file not in files]
    return files


def _is_file(path: Path) -> bool:
    """DataError for a link to nothing: rows that somebody counts on would be left out in silence."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"this links to {path.readlink()}, which is not there", "mend the link", file=str(path))
    return path.is_file()


def _folder_files(folder: Path, entry: DatasetEntry) -> list[Path]:
    with readable(folder):
        names = sorted(item.name for item in folder.iterdir())
    files = [file for file in sorted(folder.rglob("*")) if _is_data(file.relative_to(folder)) and _is_file(file)]
    if not files:
        message = f"no data file in this folder (known: {', '.join(READERS)})"
        raise DataError(message, f"it has {_listed(names)}" if names else "it is empty", file=str(folder))
    kinds = Counter(file.suffix for file in files)
    wanted = {".json", ".jsonl"} if entry.ds_type == "json" else {_KIND_OF_DS_TYPE.get(entry.ds_type or "")} - {None}
    if wanted:
        files = [file for file in files if file.suffix in wanted]
        if not files:
            message = f"no file of ds_type {entry.ds_type!r} in this folder"
            raise DataError(message, f"it has {_listed(names)}", file=str(folder))
    elif len(kinds) > 1:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
        raise DataError(f"several kinds of files: {counts}", "choose with ds_type or data_files", file=str(folder))
    return _of_split(folder, files, entry.split)


def _of_split(folder: Path, files: list[Path], split: str) -> list[Path]:
    named = {file: _split_of(file.relative_to(folder)) for file in files}
    if split == "train" and not any(named.values()):
        return files
    chosen = [file for file, name in named.items() if name == split]
    if not chosen:
        there = sorted({name or "no split in its name" for name in named.values()})
        raise DataError(f"no file of split {split!r} in this folder", f"found: {', '.join(there)}", file=str(folder))
    return chosen


def _split_of(file: Path) -> str | None:
    words = re.split(r"[^a-z]+", str(file).lower())
    return next((split for split, names in _SPLIT_NAMES.items() if any(name in words for name in names)), None)


def _is_data(file: Path) -> bool:
    return file.suffix in READERS and not any(part.startswith(".") for part in file.parts)


def _check_plain_split(entry: DatasetEntry) -> None:
    if not entry.split.isidentifier():
        message = f"split {entry.split!r}: only whole splits of local data can be read"
        raise DataError(message, "write the rows that are meant into a file of their own", file=entry.path)


def _nearby(path: Path) -> str:
    """What is there instead, the nearest name first."""
    folder = next(parent for parent in path.parents if parent == Path(parent.anchor) or parent.is_dir())
    try:
        names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    except OSError:
        return f"the folder {folder} cannot be read"
    if not names:
        return f"the folder {folder} is empty"
    near = did_you_mean(path.parts[len(folder.parts)], names)
    there = f"{'the working directory' if folder == Path() else folder} has {_listed(names)}"
    return f"{near} {there}" if near else there


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{', '.join(names[:_NAMES_SHOWN])}{more}"


_NAMES_SHOWN = 8
