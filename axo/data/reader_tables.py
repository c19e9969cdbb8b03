"""Rows of columns: Parquet files, and Arrow files as `datasets` keeps them, a thousand rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from axo.data.content import DataFile, readable
from axo.data.rows import Row
from axo.errors import DataError

_ROWS = 1000
_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Arrow's columnar format, "IPC File Format" and "IPC Streaming Format"."""

_Chunks = Iterator[tuple[int, Callable[[], Iterator[Any]]]]
"""Number of rows, and what reads the record batches that hold them."""


def read_parquet(path: DataFile, keep: Iterator[int] | None = None) -> Iterator[Row]:
    """Rows of a Parquet file; groups of rows of which none is wanted are not read."""
    return _read(path, keep, "Parquet", _row_groups)


def read_arrow(path: DataFile, keep: Iterator[int] | None = None) -> Iterator[Row]:
    """Rows of an Arrow file or stream."""
    return _read(path, keep, "Arrow", _record_batches)


def count_parquet(path: DataFile) -> int:
    """As its metadata says."""
    return _count(path, "Parquet", _row_groups)


def count_arrow(path: DataFile) -> int:
    return _count(path, "Arrow", _record_batches)


def _read(
    path: DataFile, keep: Iterator[int] | None, called: str, chunks_of: Callable[[Any], _Chunks]
) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        with _opened(path) as content:
            for row in _rows(chunks_of(content), path, keep):
                number = row.line
                yield row
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, called, error, number) from None


def _count(path: DataFile, called: str, chunks_of: Callable[[Any], _Chunks]) -> int:
    import pyarrow as pa

    try:
        with _opened(path) as content:
            return sum(num_rows for num_rows, _ in chunks_of(content))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, called, error, 0) from None


@contextmanager
def _opened(path: DataFile) -> Iterator[Any]:
    """A file in which pyarrow can move about: what cannot be moved about in is held in memory."""
    import pyarrow as pa

    with readable(path), path.open("rb") as file:  # pyarrow says less of a file that may not be read
        content = b"" if isinstance(path, Path) or file.seekable() else file.read()
    if isinstance(path, Path):
        with pa.OSFile(str(path)) as native:
            yield native
    elif content:
        yield pa.BufferReader(content)
    else:
        with readable(path), path.open("rb") as file:
            yield pa.PythonFile(file, mode="r")


def _row_groups(content: Any) -> _Chunks:
    import pyarrow.parquet as pq

    def batches(group: int) -> Callable[[], Iterator[Any]]:
        return lambda: file.iter_batches(batch_size=_ROWS, row_groups=[group])

    with pq.ParquetFile(content, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.metadata.row_group(group).num_rows, batches(group)


def _record_batches(content: Any) -> _Chunks:
    import pyarrow as pa

    if content.read(len(_MAGIC)) == _MAGIC:
        file = pa.ipc.open_file(content)
        for index in range(file.num_record_batches):
            yield _whole(file.get_batch(index))
        return
    content.seek(0)
    stream = pa.ipc.open_stream(content)
    for batch in stream:
        yield _whole(batch)
    content.seek(content.size() - len(_END_OF_STREAM))
    if content.read() != _END_OF_STREAM:
        raise pa.ArrowInvalid("the mark of its end is missing")


def _whole(batch: Any) -> tuple[int, Callable[[], Iterator[Any]]]:
    return len(batch), lambda: iter((batch,))


def _rows(chunks: _Chunks, path: DataFile, keep: Iterator[int] | None) -> Iterator[Row]:
    before = 0
    for num_rows, batches in chunks:
        flags = None if keep is None else bytes(islice(keep, num_rows))
        if flags is None or any(flags):
            yield from _of_batches(batches(), path, before, flags)
        before += num_rows
        if flags is not None and len(flags) < num_rows:
            return


def _of_batches(batches: Iterator[Any], path: DataFile, before: int, flags: bytes | None) -> Iterator[Row]:
    """Rows of batches that follow `before` others, of which `flags` names those that are wanted."""
    import pyarrow as pa

    name, at = str(path), 0
    for batch in batches:
        for start in range(0, len(batch), _ROWS):
            part = batch.slice(start, _ROWS)
            numbers = range(before + at + 1, before + at + len(part) + 1)
            if flags is not None:
                places = [place for place, flag in enumerate(flags[at : at + len(part)]) if flag]
                part, numbers = part.take(pa.array(places, pa.int64())), [numbers[place] for place in places]
            at += min(_ROWS, len(batch) - start)
            for number, values in zip(numbers, _values(part, path, numbers), strict=True):
                yield Row(values, name, number)


def _values(batch: Any, path: DataFile, numbers: range | list[int]) -> list[dict[str, Any]]:
    """The rows of a batch. DataError at the first one that cannot be read, such as a text that is not UTF-8."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        pass
    for place, number in enumerate(numbers):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column[place].as_py()
            except (ValueError, OverflowError) as error:
                hint = "write the file again"
                message = f"this value cannot be read: {error}"
                raise DataError(message, hint, file=str(path), line=number, field=name) from None
    raise AssertionError("each value can be read alone")


def _damaged(path: DataFile, called: str, error: Exception, number: int) -> DataError:
    after = f" after row {number}" if number else ""
    said = str(error).strip().split("\n")[0].rstrip(".")
    message = f"this is no whole {called} file: it cannot be read{after}: {said}"
    return DataError(message, "copy or write the file again; set ds_type where it is of another kind", file=str(path))
