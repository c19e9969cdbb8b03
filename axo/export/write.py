"""Writes the merged tensors block by block, several blocks at a time, so that reading, adding and writing overlap."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from axo.export.assemble import Output, OutputFile
from axo.export.changes import Scratch
from axo.export.tensor_file import encode_header

_BLOCK_ELEMENTS = 1 << 20
"""4 MiB of float32: small enough that a block's passes stay in the cache, large enough to write well."""

_MAX_WORKERS = 16


def write_tensors(files: tuple[OutputFile, ...], *, folder: Path, written: Callable[[int], None]) -> None:
    """Write each file; `written` is called with a number of bytes after every block, from any thread.

    The anonymous memory in use is a few blocks a worker, whatever the model's size: what is read is mapped.
    """
    with _one_thread_an_operation() as workers, ThreadPoolExecutor(workers) as pool:
        for file in files:
            _write_file(file, folder / file.name, pool=pool, written=written)


def _write_file(file: OutputFile, path: Path, *, pool: ThreadPoolExecutor, written: Callable[[int], None]) -> None:
    header = encode_header(file.metadata, {o.name: (o.dtype, o.shape, o.num_bytes) for o in file.outputs})
    scratches = threading.local()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def write_block(block: tuple[Output, int, int, int]) -> None:
        output, start, stop, offset = block
        if output.copied:
            data = output.copied.data(start, stop)
        else:
            data = output.values(start, stop, scratch=_of_this_thread(scratches)).view(-1).view(torch.uint8)
        _write_all(descriptor, data, offset)
        written(len(data))

    try:
        _write_all(descriptor, torch.frombuffer(bytearray(header), dtype=torch.uint8), 0)
        for _ in pool.map(write_block, _blocks(file, first=len(header))):
            pass
    finally:
        os.close(descriptor)


def _blocks(file: OutputFile, *, first: int) -> Iterator[tuple[Output, int, int, int]]:
    """(output, row, row after the last, place in the file) of every block, in the order of the file."""
    offset = first
    for output in file.outputs:
        num_rows = output.num_rows
        rows_at_a_time = max(1, _BLOCK_ELEMENTS * num_rows // max(1, math.prod(output.shape)))
        for start in range(0, num_rows if output.num_bytes else 0, rows_at_a_time):
            stop = min(start + rows_at_a_time, num_rows)
            yield output, start, stop, offset + start * (output.num_bytes // num_rows)
        offset += output.num_bytes


def _of_this_thread(scratches: threading.local) -> Scratch:
    if not hasattr(scratches, "scratch"):
        scratches.scratch = Scratch()
    return scratches.scratch


def _write_all(descriptor: int, data: torch.Tensor, offset: int) -> None:
    view = memoryview(data.numpy())  # type: ignore[arg-type]  (arrays are buffers since Python had them)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


@contextmanager
def _one_thread_an_operation() -> Iterator[int]:
    """Gives the number of workers; torch's own threads would only get in their way while they run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield max(2, min(threads, _MAX_WORKERS))
    finally:
        torch.set_num_threads(threads)
