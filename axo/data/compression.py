"""Data files that are packed with gzip or Zstandard, unpacked while they are read."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from axo.data.content import DataFile, head, readable, signature
from axo.errors import DataError

CODECS = {".gz": "gzip", ".zst": "zstd"}
"""End of a file's name -> how it is packed."""
_CALLED = {"gzip": "a gzip file", "zstd": "a Zstandard file"}


@dataclass(frozen=True)
class Unpacked:
    """The content of a packed file, under the file's own name."""

    file: DataFile
    codec: str

    @property
    def name(self) -> str:
        return self.file.name

    def open(self, mode: str = "rb") -> BinaryIO:
        """DataError where the file is not packed as its name says."""
        with readable(self.file):
            start = head(self.file)
        called = _CALLED[self.codec]
        if signature(start) != called:
            found = "an empty file" if not start else signature(start) or "something else"
            hint = "name it by what it is: without .gz or .zst where it is not packed"
            raise DataError(f"expected {called}, found {found}", hint, file=str(self.file))
        packed = self.file.open("rb")
        stream = _gzip(packed) if self.codec == "gzip" else _zstd(packed)
        return cast("BinaryIO", io.BufferedReader(_Unpacking(stream, packed), 1 << 18))

    def __str__(self) -> str:
        return str(self.file)


def _gzip(packed: BinaryIO) -> Any:
    return gzip.GzipFile(fileobj=packed, mode="rb")


def _zstd(packed: BinaryIO) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")


class _Unpacking(io.RawIOBase):
    """Whatever a codec says of a damaged file becomes an OSError, which readers turn into a DataError."""

    def __init__(self, stream: Any, packed: BinaryIO) -> None:
        self._stream, self._packed = stream, packed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._stream.read(len(buffer))
        except (EOFError, zlib.error, OSError) as error:
            said = str(error).strip().split("\n")[0].rstrip(".")
            raise OSError(f"the packed file is damaged or cut off: {said}") from error
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()
