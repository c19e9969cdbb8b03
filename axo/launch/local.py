"""Start the workers of a run: in this process for one, through torch's elastic agent for several, on any nodes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from axo.errors import LaunchError
from axo.launch.board import Board, OneNode
from axo.launch.environment import set_environment
from axo.launch.failures import revive
from axo.launch.verdict import RESUME, stopped_early
from axo.log import LOG
from axo.plan.cluster import Cluster
from axo.plan.plan import EnginePlan

if TYPE_CHECKING:
    from axo.launch.agent import Agent
    from axo.launch.meeting import Meeting

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WORKER = ("-m", "axo.train.worker")
"""What Python runs as a worker, with the job's path behind it."""
ALONE = Cluster()


def launch(
    engine: EnginePlan,
    *,
    write_job: Callable[[Path], None],
    in_process: Callable[[], None],
    cluster: Cluster = ALONE,
) -> None:
    """Run the job to its end. Errors of workers, on any node, are raised here as if they had happened here.

    `write_job` writes the job file for worker processes; `in_process` runs it for a single device."""
    set_environment(engine)
    if engine.world_size == 1 and engine.name != "deepspeed":  # which needs a process group of its own
        in_process()
        return
    folder = Path(tempfile.mkdtemp(prefix="axo-workers-"))
    try:
        write_job(folder / "job.json")
        _run_workers(engine, cluster, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_workers(engine: EnginePlan, cluster: Cluster, folder: Path) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException

    import axo.launch.agent  # noqa: F401 - brings the loggers that are silenced
    from axo.launch.meeting import JOIN_SECONDS, Meeting

    _silence_elastic()
    meeting = Meeting(cluster, workers=engine.workers_a_node, join_seconds=max(JOIN_SECONDS, engine.timeout_seconds))
    with _signals() as hear:
        try:
            board = _open(meeting, cluster)
            try:
                agent = _agent(engine, cluster, meeting, board, folder)
                hear(agent)
                _run(agent)
            finally:
                board.close()
        except SignalException as stop:
            raise stopped_early(stop.sigval) from None
    if agent.verdict is not None:
        if agent.verdict.trace:
            LOG.error("%s", agent.verdict.trace)
        raise revive(agent.verdict.report)


def _open(meeting: Meeting, cluster: Cluster) -> Board:
    """Meet the other nodes, if there are any."""
    from axo.launch.interface import interface_addresses, interface_of
    from axo.launch.link import Link

    store = meeting.open()
    if store is None:
        return OneNode()
    if "GLOO_SOCKET_IFNAME" not in os.environ and sys.platform == "linux":
        interface = interface_of(meeting.host, interface_addresses)
        if interface is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = interface
    LOG.info(
        "%d nodes have met: %s", len(meeting.cards), ", ".join(f"{card.node} {card.host}" for card in meeting.cards)
    )
    link = Link(store, node=cluster.node_rank, num_nodes=cluster.num_nodes)
    link.start()
    return link


def _agent(engine: EnginePlan, cluster: Cluster, meeting: Meeting, board: Board, folder: Path) -> Agent:
    from torch.distributed.elastic.agent.server.api import WorkerSpec

    from axo.launch.agent import Agent

    spec = WorkerSpec(
        role="worker",
        local_world_size=engine.workers_a_node,
        rdzv_handler=meeting,
        entrypoint=sys.executable,
        args=(*WORKER, str(folder / "job.json")),
        max_restarts=engine.max_restarts,
        monitor_interval=0.1,
    )
    return Agent(spec, engine=engine, cluster=cluster, meeting=meeting, board=board, folder=folder)


def _run(agent: Agent) -> None:
    """What torch raises where the nodes' store is gone says nothing to a user."""
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ""  # see _signals
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings of a lost peer are pages of C++ frames
    try:
        agent.run()
    except RuntimeError as error:
        raise LaunchError(f"the nodes lost touch while workers were started: {error}", RESUME) from error


def _silence_elastic() -> None:
    """axo reports failures itself."""
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def _signals() -> Iterator[Callable[[Agent], None]]:
    """The first signal goes on to the workers, which finish their step; a second one ends this process at once, and
    its workers with it. Before there are workers, the first one ends the start."""
    from torch.distributed.elastic.multiprocessing import SignalException

    agents: list[Any] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        for each in SIGNALS:
            signal.signal(each, lambda number, frame: os._exit(128 + number))
        if not agents or not agents[0].forward(number):
            raise SignalException(f"signal {number}", sigval=signal.Signals(number))

    former = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield agents.append
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
