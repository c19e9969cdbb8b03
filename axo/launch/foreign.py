"""Start the workers of this node through torchrun, accelerate or deepspeed, as one program that axo waits for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from axo.compat.parent_death import end_with_parent
from axo.errors import AxoError, LaunchError
from axo.launch.arguments import Arguments
from axo.launch.environment import free_port, only_rank, set_environment
from axo.launch.failures import End, read_end, revive
from axo.launch.verdict import GRACE_SECONDS, Court, stopped_early
from axo.log import LOG
from axo.plan.plan import EnginePlan

MODULES = {
    "torchrun": "torch.distributed.run",
    "accelerate": "accelerate.commands.launch",
    "deepspeed": "deepspeed.launcher.runner",
}
WORKER = "axo.train.worker"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ACCELERATE_CONFIG = (
    "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: 'no'\nuse_cpu: false\n"
)
"""Stands before accelerate's default file, which might ask for an engine."""


def launch_through(arguments: Arguments, engine: EnginePlan, *, write_job: Callable[[Path], None]) -> None:
    """Run the job to its end. Errors of workers are raised here as if they had happened here."""
    check_installed(arguments.launcher)
    refuse_watching(engine, f"--launcher {arguments.launcher}", restarts=arguments.launcher != "deepspeed")
    set_environment(engine)
    folder = Path(tempfile.mkdtemp(prefix="axo-workers-"))
    try:
        write_job(folder / "job.json")
        (folder / "foreign").touch()  # see axo/train/worker.py
        words = command(arguments, engine, job=folder / "job.json")
        LOG.info("workers are started by: %s", " ".join(words[2:]))
        with only_rank(engine):
            _run(words, arguments, engine, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_watching(engine: EnginePlan, by: str, *, restarts: bool = False) -> None:
    """Raise LaunchError for keys that only axo's own launcher can follow; `restarts`: this one starts workers again,
    too."""
    asked = {"max_restarts": 0 if restarts else engine.max_restarts, "hang_timeout": engine.hang_timeout_seconds}
    for key, value in asked.items():
        if value:
            raise LaunchError(
                f"{key} is {value}, and workers are started by {by}, which axo does not watch",
                f"let axo start the workers (`axo train RECIPE`, without a launcher), or leave {key} out",
            )


def check_installed(launcher: str) -> None:
    """Raise LaunchError where the package of the launcher is not there."""
    package = MODULES[launcher].partition(".")[0]
    if find_spec(package) is None:
        raise LaunchError(
            f"--launcher {launcher} needs {package}, which is not installed",
            f"run `pip install {package}`, or leave --launcher out: axo starts workers itself",
        )


def command(arguments: Arguments, engine: EnginePlan, *, job: Path) -> list[str]:
    """The words that start the workers of this node; what the user did not say is said from the Plan."""
    given = arguments.named
    own = _OWN[arguments.launcher](engine, given, job.parent)
    module = ["--module"] if arguments.launcher == "deepspeed" else ["-m"]
    start = [sys.executable, "-m", MODULES[arguments.launcher]]
    return [*start, *own, *arguments.words, *module, WORKER, str(job)]


def _torchrun(engine: EnginePlan, given: dict[str, str], folder: Path) -> list[str]:
    del folder
    own = [] if "nproc_per_node" in given else [f"--nproc_per_node={engine.workers_a_node}"]
    meets = {"standalone", "rdzv_backend", "rdzv_endpoint", "master_addr", "master_port"}
    if engine.num_nodes == 1 and not meets & set(given):
        own.append("--standalone")  # a free port, where its default is one port for everybody
    own += _restarts(engine, given)
    if "shutdown_timeout" not in given:
        own.append(f"--shutdown_timeout={GRACE_SECONDS}")
    return own


def _accelerate(engine: EnginePlan, given: dict[str, str], folder: Path) -> list[str]:
    own: list[str] = []
    if "config_file" not in given:
        config = folder / "accelerate.yaml"
        config.write_text(ACCELERATE_CONFIG)
        own.append(f"--config_file={config}")
    if "num_processes" not in given:
        own.append(f"--num_processes={engine.world_size}")
    if "num_machines" not in given:
        own.append(f"--num_machines={engine.num_nodes}")
    if engine.world_size > 1 and "multi_gpu" not in given:
        own.append("--multi_gpu")  # on a CPU too: without it accelerate starts one process
    if engine.num_nodes == 1 and "main_process_port" not in given:
        own.append("--main_process_port=0")
    return own + (_restarts(engine, given) if engine.world_size > 1 else [])


def _restarts(engine: EnginePlan, given: dict[str, str]) -> list[str]:
    """Workers that are started again go on from the last checkpoint, whoever starts them."""
    said = given.get("max_restarts")
    if said is not None and engine.max_restarts and said != str(engine.max_restarts):
        raise LaunchError(
            f"max_restarts is {engine.max_restarts} in the recipe, and --max_restarts {said} is given to the launcher",
            "say it once",
        )
    return [f"--max_restarts={engine.max_restarts}"] if said is None and engine.max_restarts else []


def _deepspeed(engine: EnginePlan, given: dict[str, str], folder: Path) -> list[str]:
    del folder
    own = ["--no_local_rank"] * ("no_local_rank" not in given)
    chosen = {"num_gpus", "num_accelerators", "include", "i", "exclude", "e"} & set(given)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if engine.device == "cuda" else None
    if visible and chosen:
        raise LaunchError(
            f"CUDA_VISIBLE_DEVICES is {visible}, which DeepSpeed ignores where --{min(chosen)} is given",
            f"leave --{min(chosen)} out: the visible GPUs are taken",
        )
    if not chosen and not visible:
        own.append(f"--num_gpus={engine.workers_a_node}")
    if "master_port" not in given:
        own.append(f"--master_port={free_port()}")
    if "log_level" not in given and "quiet" not in given:
        own.append("--log_level=error")
    return own


_OWN = {"torchrun": _torchrun, "accelerate": _accelerate, "deepspeed": _deepspeed}


def _run(words: Sequence[str], arguments: Arguments, engine: EnginePlan, folder: Path) -> None:
    """Wait for the launcher; it gets a session of its own, for it would answer Ctrl-C by killing workers that save."""
    process = subprocess.Popen(words, start_new_session=True, preexec_fn=end_with_parent)
    with _signals_stop_workers(process, folder) as received:
        code = process.wait()
    first = arguments.cluster.node_rank * engine.workers_a_node
    ends = _ends(folder, range(first, first + engine.workers_a_node))
    stopped = any(end.kind == "stopped" for end in ends)
    if code != 0 or received or stopped:
        raise _error(ends, engine) or _fault(arguments.launcher, code, received)


def _ends(folder: Path, ranks: Sequence[int]) -> list[End]:
    """How workers ended that wrote something; exit codes are the launcher's to know."""
    ends = [read_end(folder, rank=rank, host=socket.gethostname(), exit_code=1) for rank in ranks]
    return [end for end in ends if end.report is not None or end.trace]


def _error(ends: Sequence[End], engine: EnginePlan) -> AxoError | None:
    """The most telling of what workers left, as axo's own launcher judges it."""
    court = Court(world_size=len(ends), num_nodes=engine.num_nodes, restarts_left=0)
    verdict = court.judge(ends, waited=0)
    if verdict is None:
        return None
    if verdict.trace:
        LOG.error("%s", verdict.trace)
    return revive(verdict.report)


@contextmanager
def _signals_stop_workers(process: subprocess.Popen[bytes], folder: Path) -> Iterator[list[int]]:
    """The first signal goes to the workers, which finish their step and save; a second one ends all at once."""
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        if received:
            os.killpg(process.pid, signal.SIGKILL)
            os._exit(128 + number)
        received.append(number)
        workers = [int(path.read_text()) for path in sorted(folder.glob("pid-*.txt"))]
        for worker in workers or [process.pid]:
            _send(worker)

    former = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _send(worker: int) -> None:
    try:
        os.kill(worker, signal.SIGTERM)
    except ProcessLookupError:
        return


def _fault(launcher: str, code: int, received: Sequence[int]) -> AxoError:
    if received:
        return stopped_early(received[0])
    cause = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return LaunchError(
        f"{launcher} ended {cause}",
        "its messages stand above; run the same command to go on from the last checkpoint, if there is one",
    )
