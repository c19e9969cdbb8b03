"""How the workers of a run come to be: axo starts them, a launcher does, or this process is one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from axo import log
from axo.compat.parent_death import end_with_parent
from axo.errors import AxoError, LaunchError, Stopped
from axo.launch.arguments import check_name, read_arguments
from axo.launch.environment import asked_of_accelerate, only_rank, set_environment, without_accelerate
from axo.launch.foreign import launch_through, refuse_watching
from axo.launch.started import Started, find_started
from axo.log import LOG
from axo.plan.cluster import Asked, Cluster, find_cluster
from axo.plan.facts import find_hardware
from axo.plan.plan import EnginePlan

WriteJob = Callable[[Path], None]
Start = Callable[[EnginePlan, WriteJob, Callable[[], None]], None]
"""Given the Plan's engine, what writes the job for worker processes, and what runs it in this one."""


@dataclass(frozen=True)
class Way:
    """Who starts the workers, and what this process has to do for the run."""

    start: Start
    cluster: Cluster = field(default_factory=Cluster)
    started: Started | None = None
    """Set where this process is itself one of several workers: data must have been prepared."""
    only_here: bool = True
    """axo's own launcher on this node: a sweep can go this way."""

    @property
    def again(self) -> bool:
        """A launcher has started the workers again: the run goes on, whatever the command says."""
        return self.started is not None and self.started.restarts > 0

    @property
    def leads(self) -> bool:
        """Whether this process claims output_dir and writes what it says of the run; the others follow it."""
        return self.cluster.node_rank == 0 and (self.started is None or self.started.rank == 0)


def own_way(cluster: Cluster | None = None) -> Way:
    """axo starts the workers of this node itself."""
    cluster = cluster or Cluster()

    def start(engine: EnginePlan, write_job: WriteJob, in_process: Callable[[], None]) -> None:
        from axo.launch.local import launch

        launch(engine, cluster=cluster, write_job=write_job, in_process=in_process)

    return Way(start, cluster, only_here=cluster.num_nodes == 1)


def find_way(asked: Asked, *, launcher: str | None, arguments: Sequence[str] = ()) -> Way:
    """What options, environment and SLURM say. Raises LaunchError for what is incomplete or contradicts itself."""
    if launcher is not None:
        check_name(launcher)
        _refuse_nodes(asked, launcher)
    elif arguments:
        raise LaunchError(
            f"found launcher arguments behind -- ({' '.join(arguments)}), and no --launcher",
            "say whose they are: --launcher torchrun, accelerate or deepspeed; without one axo starts a worker on each "
            "GPU itself (world_size says how many)",
        )
    started = find_started()
    if started is not None:
        return _started_way(started, asked, launcher)
    if launcher is None:
        return own_way(find_cluster(asked))
    read = read_arguments(launcher, arguments)
    if launcher == "python":
        _refuse_many_gpus()
        return Way(_in_process("--launcher python"), read.cluster, only_here=False)
    return Way(_through(partial(launch_through, read)), read.cluster, only_here=False)


@contextmanager
def followers_are_quiet(way: Way) -> Iterator[None]:
    """One voice for what all processes say alike: messages come from the one that leads, errors before the training
    from one process a node."""
    if way.leads:
        yield
        return
    log.set_up(rank=1)
    try:
        yield
    except AxoError as error:
        if way.started is not None and way.started.local_rank > 0 and not isinstance(error, _RankError):
            raise SystemExit(error.exit_code) from None
        raise


class _RankError(LaunchError):
    """An error that may be this rank's own, and is told with its number."""


def _started_way(started: Started, asked: Asked, launcher: str | None) -> Way:
    if launcher not in (None, "python"):
        raise LaunchError(
            f"--launcher {launcher} is given to a process that a launcher has started (RANK={started.rank})",
            "leave --launcher out, or the outer launcher",
        )
    _refuse_nodes(asked, f"{started.cluster.found_in}")
    start = _in_process("another launcher", started)  # its own --max_restarts works: workers go on from a checkpoint
    alone = started.world_size == 1  # then it may prepare data, as a process without a launcher does
    return Way(start, started.cluster, None if alone else started, only_here=False)


def _refuse_nodes(asked: Asked, who: str) -> None:
    given = {"--nnodes": asked.nnodes, "--node-rank": asked.node_rank, "--rdzv-endpoint": asked.rdzv_endpoint}
    for option, value in given.items():
        if value is not None:
            raise LaunchError(
                f"{option} is for workers that axo starts itself, and here it is {who} that starts them",
                "give the nodes to the launcher, or leave the launcher out",
            )


def _refuse_many_gpus() -> None:
    """torch.nn.DataParallel is what other tools do then."""
    visible = len(find_hardware().devices)
    if visible > 1:
        raise LaunchError(
            f"--launcher python runs one worker, and {visible} GPUs are visible: training on all of them from one "
            "process copies the model to each at every step and gathers all outputs on the first, which is slow and "
            "runs that one out of memory",
            "leave --launcher out, and axo starts a worker on each GPU; or CUDA_VISIBLE_DEVICES=0 for one GPU",
        )


def _through(launch: Callable[..., None]) -> Start:
    def start(engine: EnginePlan, write_job: WriteJob, in_process: Callable[[], None]) -> None:
        del in_process
        launch(engine, write_job=write_job)

    return start


def _in_process(by: str, started: Started | None = None) -> Start:
    """This process is the worker."""

    def start(engine: EnginePlan, write_job: WriteJob, in_process: Callable[[], None]) -> None:
        del write_job
        if started is not None:
            refuse_watching(engine, by)
            end_with_parent()  # it may hold the lock of output_dir
        _refuse_wrapping(engine)
        set_environment(engine)
        with without_accelerate(), only_rank(engine), _with_rank(started):
            in_process()

    return start


def _refuse_wrapping(engine: EnginePlan) -> None:
    """accelerate's configuration may ask for an engine that the recipe does not name."""
    same = {"fsdp": "FSDP", "deepspeed": "DeepSpeed"}.get(engine.name)
    others = [what for what in asked_of_accelerate() if what != same]
    if others:
        raise LaunchError(
            f"accelerate's configuration asks for {others[0]}, and the recipe for {engine.name}",
            "axo takes nothing but processes from accelerate: write fsdp_config or deepspeed into the recipe, and run "
            "`accelerate launch` with --multi_gpu and a configuration without an engine",
        )


@contextmanager
def _with_rank(started: Started | None) -> Iterator[None]:
    """Errors of a rank with its number; a connection that broke because another rank ended is no traceback."""
    try:
        yield
    except Stopped as error:
        if started is None or (started.rank == 0 and not started.elastic):
            raise
        if started.rank == 0:
            LOG.warning("%s", error.message)
        raise SystemExit(0 if started.elastic else error.exit_code) from None
    except AxoError as error:
        if started is None or started.rank == 0:
            raise
        told = _RankError(f"rank {started.rank}: {error.message}", error.hint)
        told.exit_code = error.exit_code
        raise told from error
    except RuntimeError as error:
        if started is None or started.world_size == 1:
            raise
        raise _RankError(
            f"rank {started.rank} cannot go on: {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}",
            "another rank may have ended first, and said why; --debug shows the traceback",
        ) from error
