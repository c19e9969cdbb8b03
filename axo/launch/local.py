"""Start the workers of this node: in this process for one device, through torchrun's API for several."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from axo.errors import (
    AxoError,
    CheckpointError,
    DataError,
    Finding,
    HardwareError,
    LaunchError,
    RecipeError,
    Stopped,
    TrainingError,
)
from axo.log import LOG
from axo.plan.plan import EnginePlan

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_KILLED = frozenset(-number for number in signal.Signals if number != signal.SIGTERM)
"""Exit codes of workers that a signal ended, but for the one that the agent sends to the others then."""
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
        raise _error_of_workers(folder) or _death(error.failures, folder) from None
    except SignalException as stop:
        raise _error_of_workers(folder) or Stopped(
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
        nproc_per_node=engine.world_size,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        rdzv_configs={"timeout": engine.timeout_seconds},
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=GRACE_SECONDS,
        signals_to_handle="",  # see _signals_stop_workers
    )


def _error_of_workers(folder: Path) -> AxoError | None:
    """The error that a worker wrote, the most telling first: a cause before the stop that it led to."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    if not reports:
        return None
    report = min(reports, key=lambda report: (report["exit_code"] == Stopped.exit_code, report["rank"]))
    return _revive(report)


def _revive(report: dict[str, Any]) -> AxoError:
    for kind in (DataError, HardwareError, CheckpointError, TrainingError, LaunchError, Stopped):
        if kind.exit_code == report["exit_code"]:
            return kind(report["message"], report["hint"])
    if report["exit_code"] == RecipeError.exit_code:
        return RecipeError([Finding(**finding) for finding in report["findings"]])
    error = AxoError(report["message"], report["hint"])
    error.exit_code = report["exit_code"]
    return error


def _death(failures: Mapping[int, Any], folder: Path) -> LaunchError:
    """The worker that died first; one that was killed is what the others died of, whoever was seen first."""
    killed = {rank: failure for rank, failure in failures.items() if failure.exitcode in _KILLED}
    rank, failure = min((killed or failures).items(), key=lambda item: item[1].timestamp)
    trace = folder / f"traceback-{rank:05d}.txt"
    if trace.exists():
        LOG.error("%s", trace.read_text())
    cause = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return LaunchError(
        f"worker {rank} died with {cause}",
        "its messages stand above; run the same command to go on from the last checkpoint",
    )
