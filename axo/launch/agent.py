"""torch's elastic agent with two decisions of axo's: which worker was the cause, and whether all start again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs

from axo.errors import LaunchError, Stopped
from axo.launch.board import Board
from axo.launch.failures import report_of
from axo.launch.link import LOST_SECONDS
from axo.launch.meeting import Meeting
from axo.launch.processes import Processes, clear
from axo.launch.stall import judge_stall
from axo.launch.verdict import GRACE_SECONDS, RESUME, Court, Verdict, memory_kills
from axo.log import LOG
from axo.plan.cluster import Cluster
from axo.plan.plan import EnginePlan

POSITIONS_SECONDS = 10
"""How long nodes may take to tell where their workers stand."""
EXIT_SECONDS = 60
"""How long a node whose workers are done waits for the other nodes."""


class Agent(LocalElasticAgent):
    """Starts this node's workers, and starts them again; `verdict` is what the run ended with, if not well."""

    def __init__(
        self, spec: WorkerSpec, *, engine: EnginePlan, cluster: Cluster, meeting: Meeting, board: Board, folder: Path
    ) -> None:
        super().__init__(
            spec, DefaultLogsSpecs(log_dir=str(folder)), exit_barrier_timeout=EXIT_SECONDS, shutdown_timeout=1
        )
        self._engine, self._cluster, self._meeting, self._board, self._folder = engine, cluster, meeting, board, folder
        self._workers: Processes | None = None
        self._asked: int | None = None
        self._asked_at = self._verdict_at = self._bad_since = 0.0
        self._memory_kills = memory_kills()
        self.verdict: Verdict | None = None

    def forward(self, number: int) -> bool:
        """Pass a signal on to the workers, which finish their step and save; False: there are none yet."""
        if self._workers is None:
            return False
        self._asked, self._asked_at = number, time.monotonic()
        self._workers.send(signal.SIGTERM)  # SIGINT would make one that still imports show a traceback
        return True

    def _start_workers(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, worker_group: WorkerGroup
    ) -> dict[int, Any]:
        clear(self._folder)
        self._board.begin(self._meeting.restarts)
        self._bad_since = self._verdict_at = 0.0
        self.verdict, self._told_positions = None, False
        self._remaining_restarts = self._engine.max_restarts - self._meeting.restarts
        os.environ["AXO_HOSTS"] = json.dumps([card.host for card in self._meeting.cards])
        started: dict[int, Any] = super()._start_workers(worker_group)  # pyright: ignore[reportCallIssue]
        processes = {
            worker.global_rank: self._pcontext.subprocess_handlers[worker.local_rank].proc  # pyright: ignore
            for worker in worker_group.workers
        }
        host = self._meeting.cards[self._cluster.node_rank].host
        self._workers = Processes(processes, folder=self._folder, host=host)
        if self._asked is not None:  # while they started again
            self._workers.send(signal.SIGTERM)
        return started

    def _monitor_workers(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, worker_group: WorkerGroup
    ) -> RunResult:
        assert self._workers is not None
        self._look(self._workers)
        verdict = self._board.verdict or self._alone() or self._too_long()
        if verdict is None:
            if self._workers.running or any(end.kind != "done" for end in self._workers.ends):
                return RunResult(state=WorkerState.HEALTHY)
            ranks = [worker.global_rank for worker in worker_group.workers]
            if self._cluster.node_rank != 0:
                self._board.close()  # node 0 may leave first, and take the store with it
            return RunResult(state=WorkerState.SUCCEEDED, return_values=dict.fromkeys(ranks))
        self._verdict_at = self._verdict_at or time.monotonic()
        if self._workers.running and time.monotonic() - self._verdict_at < verdict.rest_seconds:
            return RunResult(state=WorkerState.HEALTHY)
        self._stop_workers(worker_group)
        self._workers, self.verdict = None, verdict
        self._remaining_restarts = int(verdict.restart)  # `_start_workers` sets it again
        if verdict.restart:
            _tell_restart(verdict, number=self._meeting.restarts + 1, of=self._engine.max_restarts)
        return RunResult(state=WorkerState.FAILED)

    def _stop_workers(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, worker_group: WorkerGroup
    ) -> None:
        """They had their time to end by themselves; a worker that waits in a collective heeds nothing else."""
        del worker_group
        self._shutdown(signal.SIGKILL, timeout=5)

    def _look(self, workers: Processes) -> None:
        """Tell the board what is new here; node 0 judges what it knows."""
        if workers.look():
            self._board.post_ends(workers.ends)
        if self._bad_since == 0 and any(end.kind != "done" for end in self._board.all_ends()):
            self._bad_since = time.monotonic()
        if self._bad_since == 0 and self._board.verdict is None:
            self._look_for_stalls(workers)
        if self._cluster.node_rank == 0 and self._board.verdict is None:
            verdict = self._judge()
            if verdict is not None:
                self._board.decide(verdict)

    def _judge(self) -> Verdict | None:
        left = self._remaining_restarts
        for node in self._board.lost():
            if not self._is_done(node):
                return _node_lost(self._meeting.cards[node].host, node)
        court = Court(
            world_size=self._engine.world_size,
            num_nodes=self._cluster.num_nodes,
            restarts_left=left,
            stop_asked=self._asked is not None,
            lost_seconds=LOST_SECONDS,
            memory_kills=memory_kills() - self._memory_kills,
        )
        waited = time.monotonic() - self._bad_since if self._bad_since else 0
        verdict = court.judge(self._board.all_ends(), waited=waited)
        asked_at = self._board.positions_asked_at
        if verdict is not None or asked_at is None or self._engine.hang_timeout_seconds is None:
            return verdict
        positions, complete = self._board.all_positions()
        if not positions or not (complete or time.monotonic() - asked_at > POSITIONS_SECONDS):
            return None
        restart = left > 0 and self._asked is None
        return judge_stall(positions, seconds=self._engine.hang_timeout_seconds, restart=restart)

    def _is_done(self, node: int) -> bool:
        """Whether all workers of a node have come to their end; its parent may have left then."""
        done = {end.rank for end in self._board.all_ends() if end.kind == "done"}
        first = node * self._engine.workers_a_node
        return done.issuperset(range(first, first + self._engine.workers_a_node))

    def _look_for_stalls(self, workers: Processes) -> None:
        """Once a rank is over its time, every node tells where its workers stand."""
        limit = self._engine.hang_timeout_seconds
        if limit is None or self._told_positions:
            return
        if self._board.positions_asked_at is not None or workers.stalled(limit):
            self._told_positions = True
            self._board.ask_positions()
            self._board.post_positions(workers.positions())

    def _alone(self) -> Verdict | None:
        """Another node than 0 that hears nothing any more decides for itself."""
        if self._cluster.node_rank == 0 or not self._board.lost():
            return None
        return _node_lost(self._meeting.cards[0].host, 0)

    def _too_long(self) -> Verdict | None:
        """After a signal workers may take their time, but not for ever."""
        if self._asked is None or time.monotonic() - self._asked_at < GRACE_SECONDS:
            return None
        name = signal.Signals(self._asked).name
        message = f"stopped by {name}: the workers did not finish their step in {GRACE_SECONDS} s and were killed"
        return Verdict(False, report_of(Stopped(message, "the same command goes on from the last checkpoint")))


def _node_lost(host: str, node: int) -> Verdict:
    message = f"node {node} (host {host}) has not been heard of for {LOST_SECONDS} s: its link, its power or its parent"
    return Verdict(False, report_of(LaunchError(f"{message} process is down", RESUME)), rest_seconds=1)


def _tell_restart(verdict: Verdict, *, number: int, of: int) -> None:
    if verdict.trace:
        LOG.error("%s", verdict.trace)
    LOG.warning(
        "%s; all workers start again from the last checkpoint (%d of %d times)", verdict.report["message"], number, of
    )
