"""Data at an address: object stores through fsspec, and files on the web."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from axo.data.source_https import HttpsFile
from axo.data.source_place import Folder
from axo.errors import DataError

INSTALL = 'pip install "axo[remote]"'
"""Brings s3fs, gcsfs, adlfs and ocifs, which fsspec calls for the schemes of object stores."""
_ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "md5", "crc32c", "mtime", "created")
"""What file systems of fsspec call that which changes with a file's content; the first that one has is used."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that fsspec reads."""

    url: str
    filesystem: Any = field(repr=False)
    path: str
    """As the file system calls it."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def open(self, mode: str = "rb") -> BinaryIO:
        """OSError where it cannot be opened; so does what it gives where it cannot be read."""
        with _as_os_error():
            stream = self.filesystem.open(self.path, "rb")
        return cast("BinaryIO", io.BufferedReader(_Stream(stream), 1 << 20))

    def identity(self) -> str:
        """What changes with the content. DataError where the file is not there."""
        self.filesystem.invalidate_cache()
        with _as_data_error(self.url):
            info = self.filesystem.info(self.path)
            tag = next((info[key] for key in _ETAGS if info.get(key)), None)
            return self.filesystem.ukey(self.path) if tag is None else f"{info.get('size')} {tag}"

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class RemoteFolder:
    url: str
    filesystem: Any = field(repr=False)
    path: str

    def files(self) -> list[str]:
        with _as_data_error(self.url):
            return self._names(self.filesystem.find(self.path))

    def matching(self, pattern: str) -> list[str]:
        if pattern.startswith("/") or "://" in pattern:
            raise ValueError(pattern)
        with _as_data_error(self.url):
            found = self.filesystem.glob(f"{self.path}/{pattern}", detail=True)
        return self._names([name for name, info in found.items() if info["type"] == "file"])

    def entries(self) -> list[str]:
        with _as_data_error(self.url):
            return sorted(PurePosixPath(name).name for name in self.filesystem.ls(self.path, detail=False))

    def file(self, name: str) -> RemoteFile:
        return RemoteFile(f"{self.url}/{name}", self.filesystem, f"{self.path}/{name}")

    def folder(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url}/{name}", self.filesystem, f"{self.path}/{name}")

    def __str__(self) -> str:
        return self.url

    def _names(self, paths: list[str]) -> list[str]:
        names = (path.removeprefix(self.path).lstrip("/") for path in paths)
        shown = (name for name in names if not any(part.startswith(".") for part in name.split("/")))
        return sorted(shown, key=lambda name: PurePosixPath(name).parts)


def find_remote(url: str) -> list[RemoteFile | HttpsFile] | Folder:
    """The file at an address, the files that its pattern matches, or the folder.

    DataError: no such thing, no right to it, the network fails, or the package for its scheme is not installed.
    """
    if url.lower().startswith("https://"):
        return [HttpsFile(url)]
    filesystem, path = _filesystem(url)
    with _as_data_error(url):
        if any(mark in path for mark in "*?["):
            return _matching(url, filesystem, path)
        if filesystem.isfile(path):
            return [RemoteFile(url, filesystem, path)]
        if filesystem.isdir(path):
            return RemoteFolder(url.rstrip("/"), filesystem, path.rstrip("/"))
    raise DataError("there is no such file or folder", "look at the address, and at who may read it", file=url)


def _matching(url: str, filesystem: Any, path: str) -> list[RemoteFile | HttpsFile]:
    found = filesystem.glob(path, detail=True)
    names = sorted(name for name, info in found.items() if info["type"] == "file")
    if not names:
        raise DataError("no file matches this pattern", "look at the address, and at who may read it", file=url)
    return [RemoteFile(filesystem.unstrip_protocol(name), filesystem, name) for name in names]


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    missing = f"reading {scheme}:// needs a package that is not installed"
    if scheme not in fsspec.available_protocols():  # some are known only where their package is installed
        raise DataError(missing, INSTALL, file=url)
    try:
        with _as_data_error(url):
            return fsspec.url_to_fs(url)
    except ImportError as error:
        raise DataError(f"{missing} ({error.name or error})", INSTALL, file=url) from None


class _Stream(io.RawIOBase):
    """Whatever a client of an object store raises while it is read becomes an OSError."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        with _as_os_error():
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        with _as_os_error():
            content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Clients of object stores raise errors of their own, which have no common base."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(_first_line(error)) from error


@contextmanager
def _as_data_error(url: str) -> Iterator[None]:
    try:
        yield
    except (DataError, ImportError):
        raise
    except Exception as error:
        hint = "look at the address, at the network, and at the credentials that this store reads"
        raise DataError(f"it cannot be reached: {_first_line(error)}", hint, file=url) from error


def _first_line(error: Exception) -> str:
    said = str(error).strip().split("\n")[0].rstrip(".")
    return said or type(error).__name__
