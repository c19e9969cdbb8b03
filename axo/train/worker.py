"""One worker process: `python -m axo.train.worker JOB.json`, started by axo.launch."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import torch

from axo import log
from axo.compat.parent_death import end_with_parent
from axo.errors import AxoError, HardwareError, LaunchError, RecipeError, Stopped
from axo.plan.plan import EnginePlan
from axo.plan.words import amount
from axo.train.hang import answer_with_stack, marks
from axo.train.job import Job
from axo.train.place import Place, place_in
from axo.train.run import ALONE, run

FOREIGN = "foreign"
"""A file beside the job where another launcher starts the workers."""


def work(job: Job, place: Place = ALONE) -> None:
    """Run the job; running out of memory becomes an error with the Plan's numbers."""
    try:
        run(job, place)
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_out_of_memory(error):
            raise
        batch = job.plan.batch
        rows = f"{batch.micro_batch_size} rows of {batch.pad_to or 'up to sequence_len'} tokens"
        raise HardwareError(
            f"out of memory with micro_batch_size {batch.micro_batch_size} ({rows}), weights in "
            f"{job.plan.precision.model_dtype}: {(str(error) or 'no memory is left').splitlines()[0]}",
            "lower micro_batch_size and raise gradient_accumulation_steps, or set gradient_checkpointing: true",
        ) from error


def work_here(job: Job) -> None:
    """Run the job in this process, which a launcher may have started as one of several workers."""
    work(job, place_in(os.environ))


def check_world(engine: EnginePlan) -> None:
    """Raise LaunchError where a launcher started another number of workers than the Plan has."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != engine.world_size:
        raise LaunchError(
            f"the launcher started {amount(started, 'worker')}, and the Plan is for {engine.world_size}: its steps and "
            "batches depend on it",
            "let its arguments say the number of workers in full (--nproc_per_node, --num_processes, --num_gpus)",
        )


def _is_out_of_memory(error: Exception) -> bool:
    """torch has no class of its own for a CPU that has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def main() -> None:
    """Run the job of the file that the parent names, and exit with a code that it knows.

    The process ends without tearing down: all is written by then, and the destructor of a gloo group may wait for ever
    (see axo/engines/ddp.py)."""
    path, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    end_with_parent()  # it holds the lock of output_dir
    for left in ("error-{:05d}.json", "traceback-{:05d}.txt"):  # of a worker that was here before it was started again
        (path.parent / left.format(rank)).unlink(missing_ok=True)
    (path.parent / f"pid-{rank:05d}.txt").write_text(str(os.getpid()))  # signals go to it, not to a launcher between
    log.set_up(rank=rank)
    code = _work(path, rank)
    if code == Stopped.exit_code and (path.parent / FOREIGN).exists():
        code = 0  # a stop is no failure of a worker: the launcher would report one, and kill those that still save
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _work(path: Path, rank: int) -> int:
    """The exit code; an error is written where the parent finds it."""
    try:
        job = Job.read(path)
        check_world(job.plan.engine)
        answer_with_stack(path.parent, rank)
        hosts = tuple(json.loads(os.environ.get("AXO_HOSTS", "[]")))
        work(job, place_in(os.environ, hosts=hosts, mark=marks(path.parent, rank)))
    except AxoError as error:
        report = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint, "rank": rank}
        if isinstance(error, RecipeError):
            report["findings"] = [asdict(finding) for finding in error.findings]
        (path.parent / f"error-{rank:05d}.json").write_text(json.dumps(report))
        return error.exit_code
    except Exception:  # a bug, or what the death of another worker led to: the parent knows, and shows it or not
        (path.parent / f"traceback-{rank:05d}.txt").write_text(traceback.format_exc())
        return 1
    return 0


if __name__ == "__main__":
    main()
