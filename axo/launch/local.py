"""Start the workers of this node: in this process for one device, through torchrun's API for several."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from axo.errors import Stopped
from axo.launch.failures import death, error_of_workers
from axo.plan.plan import EnginePlan

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS = 600
"""How long workers may take to finish their step and save after a signal before they are killed."""


def launch(engine: EnginePlan, *, write_job: Callable[[Path], None], in_process: Callable[[], None]) -> None:
    """Run the job to its end. Errors of workers are raised here as if they had happened here.

    `write_job` writes the job file for worker processes; `in_process` runs it for a single device."""
    os.environ["OMP_NUM_THREADS"] = str(engine.threads)
    if engine.world_size == 1:
        in_process()
        return
    folder = Path(tempfile.mkdtemp(prefix="axo-workers-"))
    try:
        write_job(folder / "job.json")
        _run_workers(engine, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_workers(engine: EnginePlan, folder: Path) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    _silence_elastic()
    start = elastic_launch(_config(engine), entrypoint=sys.executable)
    try:
        with _signals_stop_workers():
            start("-m", "axo.train.worker", str(folder / "job.json"))
    except ChildFailedError as error:
        raise error_of_workers(folder) or death(error.failures, folder) from None
    except SignalException as stop:
        raise error_of_workers(folder) or Stopped(
            f"stopped by {signal.Signals(stop.sigval).name} before a step was finished",
            "the same command goes on from the last checkpoint, if there is one",
        ) from None


def _silence_elastic() -> None:
    """axo reports failures itself."""
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def _signals_stop_workers() -> Iterator[None]:
    """The first signal makes torchrun's agent pass it on and wait for the workers; a second one ends this process at
    once, and its workers with it. The agent's own handlers would start to wait once more."""
    from torch.distributed.elastic.multiprocessing import SignalException

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        for each in SIGNALS:
            signal.signal(each, lambda number, frame: os._exit(128 + number))
        raise SignalException(f"signal {number}", sigval=signal.Signals(number))

    former = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _config(engine: EnginePlan) -> Any:
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=engine.workers_a_node,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        rdzv_configs={"timeout": engine.timeout_seconds},
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=GRACE_SECONDS,
        signals_to_handle="",  # see _signals_stop_workers
    )
