"""Where rows come from: a local file, a folder of files, or a data set of a hub."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axo.data.readers import READERS
from axo.data.rows import Row
from axo.errors import DataError

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry

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
            raise DataError("the file has no rows", file=str(file))


def source_files(entry: DatasetEntry) -> list[Path]:
    """The local files of a data set in reading order; [] for a data set of a hub."""
    if not is_local(entry):
        return []
    path = Path(entry.path).expanduser()
    _check_plain_split(entry)
    if path.is_file():
        if entry.split != "train":
            raise DataError(f"a single file has no split {entry.split!r}", "leave `split` out", file=str(path))
        files = [path]
    else:
        files = _named_files(path, entry) if entry.data_files else _folder_files(path, entry)
    for file in files:
        kind(file, entry)
    return files


def is_local(entry: DatasetEntry) -> bool:
    """Whether the path is on this machine. DataError where it looks like a local path but nothing is there."""
    path = Path(entry.path).expanduser()
    if path.exists():
        return True
    if entry.path.startswith((".", "/", "~")) or path.suffix in READERS:
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

    try:
        return datasets.load_dataset(
            entry.path, name=entry.name, data_files=entry.data_files, split=entry.split, revision=entry.revision
        )
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise DataError(
            f"no such file here, and loading it as a hub data set failed: {first_line}",
            "check path, name, split and revision, and that the hub can be reached",
            file=entry.path,
        ) from error


def _number_rows(dataset: Any, name: str) -> Iterator[Row]:
    number = 0
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        for values in batch.to_pylist():
            number += 1
            yield Row(values, name, number)
    if number == 0:
        raise DataError("the data set has no rows", file=name)


def _named_files(folder: Path, entry: DatasetEntry) -> list[Path]:
    patterns = [entry.data_files] if isinstance(entry.data_files, str) else entry.data_files or []
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(file for file in folder.glob(pattern) if file.is_file())
        if not found:
            raise DataError(f"no file matches data_files {pattern!r}", file=str(folder))
        files += [file for file in found if file not in files]
    return files


def _folder_files(folder: Path, entry: DatasetEntry) -> list[Path]:
    files = [file for file in sorted(folder.rglob("*")) if _is_data(file.relative_to(folder)) and file.is_file()]
    if not files:
        raise DataError(f"no data file in this folder (known: {', '.join(READERS)})", file=str(folder))
    kinds = Counter(file.suffix for file in files)
    wanted = {".json", ".jsonl"} if entry.ds_type == "json" else {_KIND_OF_DS_TYPE.get(entry.ds_type or "")} - {None}
    if wanted:
        files = [file for file in files if file.suffix in wanted]
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
        raise DataError(f"split {entry.split!r}: only whole splits of local data can be read", file=entry.path)


def _nearby(path: Path) -> str | None:
    try:
        names = sorted(item.name for item in path.parent.iterdir())
    except OSError:
        return f"the folder {path.parent} does not exist either"
    return f"{path.parent} has {', '.join(names[:8])}" if names else f"the folder {path.parent} is empty"
