"""Folders that rows may lie in, and what is told of them where something is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from os.path import expanduser
from pathlib import Path, PurePosixPath
from typing import Protocol

from axo.data.content import DataFile, readable
from axo.errors import DataError
from axo.registry.registry import did_you_mean

_NAMES_SHOWN = 8


class Folder(Protocol):
    """A folder here or at an address; names are relative to it, with `/` between their parts."""

    def files(self) -> Sequence[str]:
        """Names of all files in it and below it, in order. DataError: a link to nothing."""
        ...

    def matching(self, pattern: str) -> Sequence[str]:
        """Names of files that match, in order. ValueError: no pattern of names below the folder."""
        ...

    def entries(self) -> Sequence[str]:
        """Names of what is in the folder itself, to show."""
        ...

    def file(self, name: str) -> DataFile: ...

    def folder(self, name: str) -> Folder: ...


@dataclass(frozen=True)
class LocalFolder:
    path: Path

    def files(self) -> list[str]:
        with readable(self.path):
            next(self.path.iterdir(), None)
        return [self._name(file) for file in sorted(self.path.rglob("*")) if not self._hidden(file) and is_file(file)]

    def matching(self, pattern: str) -> list[str]:
        """Below the folder; or else from the working directory, where `datasets` looks for data_files."""
        inside = [] if Path(pattern).is_absolute() else [file for file in self.path.glob(pattern) if is_file(file)]
        if inside:
            return [self._name(file) for file in sorted(inside)]
        outside = map(Path, glob(expanduser(pattern), recursive=True))
        return [str(file.absolute()) for file in sorted(outside) if is_file(file)]

    def entries(self) -> list[str]:
        with readable(self.path):
            return sorted(item.name for item in self.path.iterdir())

    def file(self, name: str) -> Path:
        return self.path / name

    def folder(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _hidden(self, file: Path) -> bool:
        return any(part.startswith(".") for part in file.relative_to(self.path).parts)


def nearby(path: Path) -> str:
    """What is there instead, the nearest name first."""
    folder = next(parent for parent in path.parents if parent == Path(parent.anchor) or parent.is_dir())
    try:
        names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    except OSError:
        return f"the folder {folder} cannot be read"
    where = "the working directory" if folder == Path() else str(folder)
    return instead(path.parts[len(folder.parts)], names, where)


def is_file(path: Path) -> bool:
    """DataError for a link to nothing: rows that somebody counts on would be left out in silence."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"this links to {path.readlink()}, which is not there", "mend the link", file=str(path))
    return path.is_file()


def instead(name: str, names: list[str], where: str) -> str:
    if not names:
        return f"the folder {where} is empty"
    near = did_you_mean(PurePosixPath(name).parts[0] if name else name, names)
    there = f"{where} has {listed(names)}"
    return f"{near} {there}" if near else there


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{', '.join(names[:_NAMES_SHOWN])}{more}"
