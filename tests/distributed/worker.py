"""One rank of a world: goes through all trials of the world in one process group."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist

from axo.engines import group
from tests.distributed.cases import Trial
from tests.distributed.overflow import overflow
from tests.distributed.trial import run_trial

TIMEOUT = timedelta(seconds=120)


def work(trials: Sequence[Trial], models: str, out: str) -> None:
    """Started by torchrun on every rank; rank 0 writes what every trial gave, a record or what went wrong, to `out`."""
    torch.set_num_threads(1)
    results: dict[object, object] = {}
    with one_group() as rank:
        for trial in trials:
            try:
                results[trial] = run_trial(trial, models=Path(models))
            except Exception:  # the other trials may hold; where only some ranks fail, the group's timeout ends all
                results[trial] = traceback.format_exc()
        results["overflow"] = overflow()
    if rank == 0:
        Path(out).write_bytes(pickle.dumps(results))


@contextmanager
def one_group() -> Iterator[int]:
    """Engines join and leave the group of their world, which is made once and lasts; gives this rank."""
    joined = group.join("cpu", timeout=TIMEOUT, meet=None)
    leave = group.leave
    with mock.patch.object(group, "join", return_value=joined), mock.patch.object(group, "leave", dist.barrier):
        yield int(os.environ["RANK"])
    leave()
