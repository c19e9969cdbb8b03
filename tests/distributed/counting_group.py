"""A process group without other ranks, which counts what is asked of it.

Every collective of torch ends in a method of the process group, whether Python, DTensor or DDP's C++ reducer asks for
it, so nothing passes by. The other ranks are taken to hold what this one holds: a gather gives copies of its values, an
average is its own value. (torch.testing._internal.distributed.fake_pg, whose store is used here, leaves results as
they are and cannot be looked into: it is C++.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _create_work_from_future
from torch.futures import Future
from torch.testing._internal.distributed.fake_pg import FakeStore

NAME = "counting"
Asked = tuple[str, int, int]
"""Kind of collective, ranks of its group, bytes of the whole tensor: what an all-reduce or a reduce-scatter takes in,
what an all-gather gives."""
asked: Counter[Asked] = Counter()


@contextmanager
def world(size: int) -> Iterator[None]:
    """This process is rank 0 of so many."""
    if NAME not in dist.Backend.backend_list:
        dist.Backend.register_backend(NAME, lambda _, rank, size, __: _Counting(rank, size), devices=["cpu"])
    dist.init_process_group(NAME, store=FakeStore(), rank=0, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def counted() -> Iterator[Counter[Asked]]:
    """How often each collective is asked for inside."""
    asked.clear()
    found: Counter[Asked] = Counter()
    yield found
    found.update(asked)


class _Counting(dist.ProcessGroup):
    """Methods as in torch/testing/_internal/distributed/multi_threaded_pg.py, ProcessLocalGroup."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self._size = size

    def allreduce(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> Any:
        for tensor in tensors:
            asked["all-reduce", self._size, tensor.nbytes] += 1
        return _done(tensors)

    def allreduce_coalesced(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> Any:
        return self.allreduce(tensors)

    def allgather(self, outputs: Sequence[Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor], opts: Any = None):
        for rows, mine in zip(outputs, inputs, strict=True):
            asked["all-gather", self._size, sum(row.nbytes for row in rows)] += 1
            for row in rows:
                row.copy_(mine)
        return _done(outputs)

    def all_gather_single(self, output: torch.Tensor, mine: torch.Tensor, opts: Any = None) -> Any:
        asked["all-gather", self._size, output.nbytes] += 1
        output.view(self._size, -1).copy_(mine.reshape(1, -1).expand(self._size, -1))
        return _done(output)

    def all_gather_single_coalesced(
        self, outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], opts: Any = None
    ) -> Any:
        return [self.all_gather_single(*pair) for pair in zip(outputs, inputs, strict=True)][-1]

    def reduce_scatter_single(self, output: torch.Tensor, mine: torch.Tensor, opts: Any = None) -> Any:
        asked["reduce-scatter", self._size, mine.nbytes] += 1
        output.copy_(mine.reshape(self._size, -1)[0].view_as(output))
        return _done(output)

    def reduce_scatter_single_coalesced(
        self, outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], opts: Any = None
    ) -> Any:
        return [self.reduce_scatter_single(*pair) for pair in zip(outputs, inputs, strict=True)][-1]

    def broadcast(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> Any:
        for tensor in tensors:
            asked["broadcast", self._size, tensor.nbytes] += 1
        return _done(tensors)

    def barrier(self, opts: Any = None) -> Any:
        return _done(None)

    def size(self) -> int:
        return self._size

    def getBackendName(self) -> str:  # noqa: N802  (torch's name)
        return NAME

    @property
    def pg_name(self) -> str:
        return dist.distributed_c10d._world.pg_names[self]

    @property
    def group_name(self) -> str:
        return self.pg_name


def _done(result: Any) -> Any:
    future: Future[Any] = Future()
    future.set_result(result)
    return _create_work_from_future(future)
