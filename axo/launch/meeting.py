"""Where the parents of a run meet before they start workers: torch's elastic agent asks for it, before each start."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore
from torch.distributed.elastic.rendezvous.api import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from axo.errors import LaunchError
from axo.log import LOG
from axo.plan.cluster import Cluster

JOIN_SECONDS = 300
"""How long a node waits for the others; people start nodes by hand, and one of them may still prepare its data."""
TOLD_EVERY_SECONDS = 30
_CALL = timedelta(seconds=60)
"""Time limit of one call to a store."""


@dataclass(frozen=True)
class Card:
    """What a node says of itself."""

    node: int
    host: str
    num_nodes: int
    workers: int
    process: int


class Meeting(RendezvousHandler):
    """Nodes keep their number, and all start again together: where they meet is fixed, and who they are. (torch's own
    c10d rendezvous orders nodes by address, and cannot say who is missing.)"""

    def __init__(self, cluster: Cluster, *, workers: int, join_seconds: float = JOIN_SECONDS) -> None:
        self._card = Card(cluster.node_rank, socket.gethostname(), cluster.num_nodes, workers, os.getpid())
        self.host, self._port = _endpoint(cluster)
        self._join_seconds = join_seconds
        self._round = 0
        self._workers_store: TCPStore | None = None
        self.cards: list[Card] = [self._card]
        """Of all nodes, once they have met."""

    def open(self) -> Store | None:
        """Meet for the first time. A store for the parents, or None where this node is alone. Raises LaunchError."""
        self._store = self._make_store()
        if self._card.num_nodes > 1:
            self._meet()
            return self._make_client()
        return None

    @property
    def restarts(self) -> int:
        """How often workers were started again."""
        return self._round - 1

    def next_rendezvous(self) -> RendezvousInfo:
        """All nodes, at a store of their own for this start: nothing of a former one must be found in it."""
        self._round += 1
        store = PrefixStore(f"start/{self._round}", self._store)
        if self._card.node == 0:
            self._workers_store = TCPStore(self.host, 0, is_master=True, timeout=_CALL, wait_for_workers=False)
            store.set("port", str(self._workers_store.port))
        store.set(f"node/{self._card.node}", self._card.host)
        self._await(store, "node/", since=time.monotonic(), what="were ready to start workers again")
        port = int(store.get("port"))
        return RendezvousInfo(store, self._card.node, self._card.num_nodes, RendezvousStoreInfo(self.host, port))

    def _make_store(self) -> TCPStore:
        if self._card.node != 0:
            self._reach()
            return self._make_client()
        try:
            return TCPStore(self.host, self._port, is_master=True, timeout=_CALL, wait_for_workers=False)
        except RuntimeError as error:
            raise LaunchError(
                f"node 0 (host {self._card.host}) cannot open port {self._port} at {self.host}: {_first_line(error)}",
                "another run may hold it, or the address belongs to another host: the nodes meet at node 0",
            ) from error

    def _make_client(self) -> TCPStore:
        port = self._store.port if self._port == 0 else self._port
        return TCPStore(self.host, port, is_master=False, timeout=_CALL, wait_for_workers=False)

    def _reach(self) -> None:
        """Wait until node 0 listens. A plain socket can be interrupted and says why it failed."""
        deadline, told = time.monotonic() + self._join_seconds, time.monotonic()
        while True:
            try:
                socket.create_connection((self.host, self._port), timeout=3).close()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LaunchError(
                        f"node {self._card.node} (host {self._card.host}) could not reach node 0 at "
                        f"{self.host}:{self._port} within {self._join_seconds:g} s: {error}",
                        "start the same command on node 0, and look at the address, the port and firewalls",
                    ) from error
            told = _tell(told, f"node {self._card.node} waits for node 0 at {self.host}:{self._port}")
            time.sleep(0.2)

    def _meet(self) -> None:
        """Everybody's card; raises LaunchError where somebody does not come, or is not who is expected."""
        taken = json.loads(self._store.compare_set(f"card/{self._card.node}", "", json.dumps(asdict(self._card))))
        if Card(**taken) != self._card:
            raise LaunchError(
                f"two nodes of this run say that they are node {self._card.node}: hosts {taken['host']} and "
                f"{self._card.host}",
                "give each node a --node-rank of its own, and each run an endpoint of its own",
            )
        self._await(self._store, "card/", since=time.monotonic(), what="came")
        cards = self._store.multi_get([f"card/{node}" for node in range(self._card.num_nodes)])
        self.cards = [Card(**json.loads(card)) for card in cards]
        for card in self.cards:
            if (card.num_nodes, card.workers) != (self.cards[0].num_nodes, self.cards[0].workers):
                raise LaunchError(
                    f"node {card.node} (host {card.host}) was told of {card.num_nodes} nodes with {card.workers} "
                    f"workers each, node 0 (host {self.cards[0].host}) of {self.cards[0].num_nodes} with "
                    f"{self.cards[0].workers}",
                    "run the same command with the same recipe on every node; only --node-rank differs",
                )

    def _await(self, store: Store, prefix: str, *, since: float, what: str) -> None:
        """Until every node has put its key into the store."""
        missing, told = set(range(self._card.num_nodes)), since
        while missing := {node for node in missing if not store.check([f"{prefix}{node}"])}:
            names = ", ".join(str(node) for node in sorted(missing)[:8])
            if time.monotonic() - since > self._join_seconds:
                here = sorted(set(range(self._card.num_nodes)) - missing)
                came = ", ".join(f"{node} (host {self._host_of(store, prefix, node)})" for node in here[:8])
                raise LaunchError(
                    f"{len(here)} of {self._card.num_nodes} nodes {what} at {self.host}:{self._port} within "
                    f"{self._join_seconds:g} s: node {came}; missing: {names}",
                    "start the same command on every node; its own messages say what keeps a node from coming",
                )
            told = _tell(told, f"waiting for node {names} at {self.host}:{self._port}")
            time.sleep(0.1)

    def _host_of(self, store: Store, prefix: str, node: int) -> str:
        said = store.get(f"{prefix}{node}").decode()
        return json.loads(said)["host"] if prefix == "card/" else said

    # What the agent asks besides. Nodes neither come later nor go: the agents' board says when all start again.

    def get_backend(self) -> str:
        return "axo"

    @property
    def use_agent_store(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        return

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return f"{self.host}:{self._port}"

    def shutdown(self) -> bool:
        return True


def _endpoint(cluster: Cluster) -> tuple[str, int]:
    if cluster.num_nodes == 1:
        return "localhost", 0
    assert cluster.rdzv_endpoint is not None
    host, _, port = cluster.rdzv_endpoint.rpartition(":")
    if not host or not port.isdigit():
        message = f"the endpoint {cluster.rdzv_endpoint!r} is not host:port"
        raise LaunchError(message, "name the host of node 0 and a free port, such as node0:29400")
    return host.strip("[]"), int(port)


def _tell(told: float, line: str) -> float:
    """Say what is waited for, now and then; gives the time of the last word."""
    if time.monotonic() - told < TOLD_EVERY_SECONDS:
        return told
    LOG.info("%s", line)
    return time.monotonic()


def _first_line(error: Any) -> str:
    return str(error).strip().split("\n")[0]
