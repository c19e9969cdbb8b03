"""The bytes of a data file become text: what cannot be read, or is no UTF-8 text, is refused at its place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, Protocol

from axo.errors import DataError


class DataFile(Protocol):
    """What a reader needs of a file, which may be a Path; `str` of it is what errors call it."""

    @property
    def name(self) -> str: ...

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...


_BOM = b"\xef\xbb\xbf"
_ICONV = "save it as UTF-8, for example with: iconv -f {} -t UTF-8 OLD > NEW"
_SIGNATURES = (
    (b"\x1f\x8b", "a gzip file", "give it a name that ends in .gz, or unpack it first with gunzip"),
    (b"BZh", "a bzip2 file", "unpack it first, for example with bunzip2"),
    (b"\xfd7zXZ\x00", "an xz file", "unpack it first, for example with unxz"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "give it a name that ends in .zst, or unpack it first with unzstd"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the spreadsheet as CSV"),
    (b"PAR1", "a Parquet file", "give it a name that ends in .parquet, or set ds_type: parquet"),
    (b"ARROW1", "an Arrow file", "give it a name that ends in .arrow, or set ds_type: arrow"),
    (b"\xff\xff\xff\xff", "an Arrow file", "give it a name that ends in .arrow, or set ds_type: arrow"),
    (b"\xff\xfe\x00\x00", "text in UTF-32", _ICONV.format("UTF-32")),
    (b"\x00\x00\xfe\xff", "text in UTF-32", _ICONV.format("UTF-32")),
    (b"\xff\xfe", "text in UTF-16", _ICONV.format("UTF-16")),
    (b"\xfe\xff", "text in UTF-16", _ICONV.format("UTF-16")),
    (b"\x80\x04", "a pickle", "save its rows as .parquet or .jsonl"),
    (b"SQLite format 3", "an SQLite data base", "save its rows as .parquet or .jsonl"),
)
"""First bytes, what they begin, what to do; longer ones before their beginnings."""


@contextmanager
def readable(path: DataFile) -> Iterator[None]:
    """What the system says while `path` is read becomes a DataError that names it."""
    try:
        yield
    except OSError as error:
        hint = "check the file and the disk that it is on"
        if "://" in str(path):
            hint = "look at the address, at the network, and at who may read it"
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = f"give yourself the right to read it: chmod u+r {path}"
        raise DataError(f"it cannot be read: {error.strerror or error}", hint, file=str(path)) from error


def read_lines(path: DataFile) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line with its line break; a byte order mark is no text.

    DataError: the file cannot be read, is not UTF-8, or has a NUL byte.
    """
    with readable(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, decode_text(line, path, line=number)


def filled_lines(path: DataFile) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line that is not blank; not yet text, so that passing over one costs little.

    Blank is nothing but ASCII white space: other white space may be a row of text. A byte order mark is left out.
    """
    with readable(path), path.open("rb") as file:
        lines = enumerate(file, start=1)
        for number, line in lines:
            line = line.removeprefix(_BOM)
            if line and not line.isspace():
                yield number, line
            break
        for number, line in lines:
            if not line.isspace():
                yield number, line


def read_text(path: DataFile) -> str:
    """All of a file, as `read_lines` reads it."""
    with readable(path), path.open("rb") as file:
        content = file.read()
    return decode_text(content, path, line=1)


def first_text_byte(path: DataFile) -> bytes:
    """The first byte of a file that is no white space and no byte order mark; b"" where there is none."""
    with readable(path), path.open("rb") as file:
        block = file.read(4096).removeprefix(_BOM)
        while block and not block.strip():
            block = file.read(4096)
        return block.lstrip()[:1]


def head(path: DataFile) -> bytes:
    """The first bytes of a file, by which `signature` knows it."""
    with path.open("rb") as file:
        return file.read(256)


def signature(start: bytes) -> str | None:
    """What begins with these bytes, in words."""
    return next((what for first, what, _ in _SIGNATURES if start.startswith(first)), None)


def decode_text(content: bytes, path: DataFile, *, line: int) -> str:
    """Text of bytes that begin at `line`. DataError: they are not UTF-8, or have a NUL byte."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _no_text(content, error.start, path, line) from None
    if "\0" in text:
        raise _no_text(content, content.index(b"\0"), path, line)
    return text.removeprefix("\ufeff") if line == 1 else text


def _no_text(content: bytes, position: int, path: DataFile, line: int) -> DataError:
    """The fault of the byte at `position`, or of the whole file where its first bytes say what it is."""
    with readable(path):
        start = head(path)
    known = next(((what, hint) for first, what, hint in _SIGNATURES if start.startswith(first)), None)
    if known is None and (order := _utf16_order(start)):
        known = ("text in UTF-16", _ICONV.format(f"UTF-16{order}"))
    if known is not None:
        return DataError(f"expected text in UTF-8, found {known[0]}", known[1], file=str(path))
    before = content[content.rfind(b"\n", 0, position) + 1 : position]
    found = f"the byte 0x{content[position]:02x}, number {len(before) + 1} of its line"
    line, column = line + content.count(b"\n", 0, position), len(before.decode("utf-8")) + 1
    wanted, hint = "text in UTF-8", _ICONV.format("WINDOWS-1252")
    if content[position] == 0:
        wanted, hint = "text", "the file is damaged or no text: write it again"
    return DataError(f"expected {wanted}, found {found}", hint, file=str(path), line=line, column=column)


def _utf16_order(head: bytes) -> str | None:
    """LE or BE where mostly every second byte is NUL, as in Western text without a byte order mark."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 < len(head) or min(even, odd) * 20 > len(head):
        return None
    return "LE" if odd > even else "BE"
