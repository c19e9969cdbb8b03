"""One reader for each kind of file: file -> rows, streaming, every fault with its file and line.

A reader may be given `keep`, one number for each row: rows of 0 are passed over, and the reader ends where `keep` does.
What is passed over is decoded only where its end cannot be found otherwise, so its faults may stay unseen.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import compress
from typing import Protocol

from axo.data.compression import CODECS, Unpacked
from axo.data.content import DataFile, decode_text, filled_lines, read_lines
from axo.data.reader_json import count_json, read_json
from axo.data.reader_tables import count_arrow, count_parquet, read_arrow, read_parquet
from axo.data.rows import Row
from axo.errors import DataError

_LONGEST_CSV_FIELD = 1 << 30
"""Characters; Python's own limit of 131072 is shorter than many a document."""


class Reader(Protocol):
    def __call__(self, path: DataFile, keep: Iterator[int] | None = None) -> Iterator[Row]: ...


def read_file(path: DataFile, kind: str, keep: Iterator[int] | None = None) -> Iterator[Row]:
    """Rows of a file of this kind, such as `.jsonl` or `.jsonl.gz`."""
    plain, codec = split_kind(kind)
    return READERS[plain](path if codec is None else Unpacked(path, codec), keep)


def count_rows(path: DataFile, kind: str) -> int:
    """How many rows `read_file` gives, found with as little decoding as the kind allows."""
    plain, codec = split_kind(kind)
    return COUNTERS[plain](path if codec is None else Unpacked(path, codec))


def split_kind(kind: str) -> tuple[str, str | None]:
    """`.jsonl` and `gzip` of `.jsonl.gz`; the codec is None where the file is not packed."""
    for end, codec in CODECS.items():
        if kind.endswith(end):
            return kind.removesuffix(end), codec
    return kind, None


def read_csv(path: DataFile, keep: Iterator[int] | None = None, *, separator: str = ",") -> Iterator[Row]:
    """Comma-separated values with a header; every value is text."""
    records = _csv_records(path, separator)
    first = next(records, None)
    if first is None:
        return
    line, header = first
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        message, hint = "this column stands twice in the header", "give each column a name of its own"
        raise DataError(message, hint, file=str(path), line=line, field=twice)
    for line, record in records if keep is None else compress(records, keep):
        if len(record) != len(header):
            raise DataError(
                f"the header has {len(header)} columns ({', '.join(header)}), this row has {len(record)}",
                f"a text that holds {_SEPARATORS[separator]}, quotes or line breaks must stand in double quotes",
                file=str(path),
                line=line,
            )
        yield Row(dict(zip(header, record, strict=True)), str(path), line)


def read_tsv(path: DataFile, keep: Iterator[int] | None = None) -> Iterator[Row]:
    """As CSV, with tabs between the values."""
    return read_csv(path, keep, separator="\t")


def read_txt(path: DataFile, keep: Iterator[int] | None = None) -> Iterator[Row]:
    """Each line that is not blank is a row with the one field `text`."""
    name = str(path)
    lines = filled_lines(path)
    for number, line in lines if keep is None else compress(lines, keep):
        yield Row({"text": decode_text(line, path, line=number).rstrip("\r\n")}, name, number)


READERS: dict[str, Reader] = {
    ".jsonl": read_json,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".txt": read_txt,
}
"""By the end of a file's name."""


def _count_lines(path: DataFile) -> int:
    return sum(1 for _ in filled_lines(path))


def _count_csv(path: DataFile, separator: str = ",") -> int:
    return max(sum(1 for _ in _csv_records(path, separator)) - 1, 0)


COUNTERS: dict[str, Callable[[DataFile], int]] = {
    ".jsonl": count_json,
    ".json": count_json,
    ".csv": _count_csv,
    ".tsv": lambda path: _count_csv(path, "\t"),
    ".parquet": count_parquet,
    ".arrow": count_arrow,
    ".txt": _count_lines,
}
_SEPARATORS = {",": "commas", "\t": "tabs"}


def _csv_records(path: DataFile, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line where each record begins, and its values; blank lines are no records."""
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    begins: list[int] = []
    reader = csv.reader(_noting(read_lines(path), begins), strict=True, delimiter=separator)
    while True:
        begins.clear()
        try:
            record = next(reader, None)
        except csv.Error as error:
            unclosed = "unexpected end of data" in str(error)
            said = "a quote that opens in this row is never closed" if unclosed else str(error)
            hint = 'a quote inside a text is written twice: "say ""hi"""'
            line = begins[0] if unclosed else begins[-1]
            raise DataError(f"broken CSV: {said}", hint, file=str(path), line=line) from None
        if record is None:
            return
        if record:
            yield begins[0], record


def _noting(lines: Iterator[tuple[int, str]], numbers: list[int]) -> Iterator[str]:
    for number, line in lines:
        numbers.append(number)
        yield line
