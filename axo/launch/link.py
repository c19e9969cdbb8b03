"""The board of several nodes: a thread carries it through the store that node 0 holds, and notices who falls silent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from axo.launch.board import OneNode
from axo.launch.failures import End
from axo.launch.stall import Position
from axo.launch.verdict import Verdict

PERIOD_SECONDS = 0.25
LOST_SECONDS = 30
"""After so long without a word a node counts as lost: longer than a machine that swaps, shorter than patience."""
LINGER_SECONDS = 5
"""How long node 0 keeps the store for others that have not heard its verdict."""


class Link(OneNode):
    """Only the thread touches the store: where a cable is pulled, a call to it may wait for many minutes."""

    def __init__(self, store: Any, *, node: int, num_nodes: int, lost_seconds: float = LOST_SECONDS) -> None:
        self._store = store
        self._node, self._others = node, [other for other in range(num_nodes) if other != node]
        self._lost_seconds = lost_seconds
        self._lock = threading.Lock()
        self._outbox: dict[str, str] = {}
        self._inbox: dict[int, dict[str, Any]] = {}
        self._round = self._beat = 0
        self._heard = {other: (b"", time.monotonic()) for other in range(num_nodes)}
        self._acknowledged: set[int] = set()
        self._closing, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._carry, name="axo-link", daemon=True)
        super().__init__()

    def start(self) -> None:
        """Called once all nodes have met."""
        self._thread.start()

    def begin(self, restarts: int) -> None:
        with self._lock:
            super().begin(restarts)
            self._round, self._outbox, self._inbox, self._acknowledged = restarts, {}, {}, set()
            self._heard = {node: (beat, time.monotonic()) for node, (beat, _) in self._heard.items()}

    def post_ends(self, ends: Sequence[End]) -> None:
        super().post_ends(ends)
        self._send("ends", [end.to_json() for end in ends])

    def all_ends(self) -> list[End]:
        return [*self._ends, *(End(**end) for posts in self._received() for end in posts.get("ends", ()))]

    def ask_positions(self) -> None:
        super().ask_positions()
        with self._lock:
            self._outbox["asked"] = "1"

    def post_positions(self, positions: Sequence[Position]) -> None:
        super().post_positions(positions)
        self._send("positions", [position.to_json() for position in positions])

    def all_positions(self) -> tuple[list[Position], bool]:
        posts = self._received()
        answered = [post for post in posts if "positions" in post]
        others = [Position(**{**one, "stack": tuple(one["stack"])}) for post in answered for one in post["positions"]]
        return [*(self._positions or []), *others], self._positions is not None and len(answered) == len(self._others)

    def decide(self, verdict: Verdict) -> None:
        super().decide(verdict)
        with self._lock:
            self._outbox["verdict"] = json.dumps(verdict.to_json())

    def lost(self) -> list[int]:
        now = time.monotonic()
        watched = self._others if self._node == 0 else [0]
        return [node for node in watched if now - self._heard[node][1] > self._lost_seconds]

    def close(self) -> None:
        deadline = time.monotonic() + LINGER_SECONDS
        lost = set(self.lost())
        while self._node == 0 and self.verdict is not None and time.monotonic() < deadline:
            if set(self._others) - lost <= self._acknowledged:
                break
            time.sleep(0.05)
        self._closing.set()
        self._thread.join(timeout=1)

    def _send(self, name: str, content: Any) -> None:
        with self._lock:
            self._outbox[f"{name}/{self._node}"] = json.dumps(content)

    def _received(self) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(posts) for posts in self._inbox.values()]

    def _carry(self) -> None:
        """Until the store is gone: it does not come back, and the silence that follows is what `lost` tells."""
        while not self._over:
            last = self._closing.wait(PERIOD_SECONDS)
            try:
                self._exchange()
            except Exception:  # torch raises several kinds
                return
            self._over = self._over or last

    def _exchange(self) -> None:
        with self._lock:
            round_, outbox, self._outbox = self._round, self._outbox, {}
        for key, value in outbox.items():
            self._store.set(f"{round_}/{key}", value)
        if any("/" in key for key in outbox):
            self._store.add(f"{round_}/news", 1)
        self._beat += 1
        self._store.set(f"beat/{self._node}", str(self._beat))
        if self._node == 0:
            self._hear_others(round_)
        else:
            self._hear_node_0(round_)
        if self.positions_asked_at is None and self._store.check([f"{round_}/asked"]):
            self._keep(round_, lambda: OneNode.ask_positions(self))

    def _hear_others(self, round_: int) -> None:
        for node, beat in zip(
            self._others, self._store.multi_get([f"beat/{one}" for one in self._others]), strict=True
        ):
            self._hear(node, beat)
        if not self._store.check([f"{round_}/news"]):
            return
        for node in self._others:
            posts = {name: f"{round_}/{name}/{node}" for name in ("ends", "positions", "heard")}
            found = {name: json.loads(self._store.get(key)) for name, key in posts.items() if self._store.check([key])}
            if "heard" in found:
                self._keep(round_, lambda node=node: self._acknowledged.add(node))
            self._keep(round_, lambda node=node, found=found: self._inbox.__setitem__(node, found))

    def _hear_node_0(self, round_: int) -> None:
        self._hear(0, self._store.get("beat/0"))
        if self.verdict is None and self._store.check([f"{round_}/verdict"]):
            verdict = Verdict(**json.loads(self._store.get(f"{round_}/verdict")))
            self._keep(round_, lambda: setattr(self, "verdict", verdict))
            self._store.set(f"{round_}/heard/{self._node}", "true")
            self._store.add(f"{round_}/news", 1)
            self._over = not verdict.restart  # node 0 takes the store away now

    def _hear(self, node: int, beat: bytes) -> None:
        if beat != self._heard[node][0]:
            self._heard[node] = beat, time.monotonic()

    def _keep(self, round_: int, change: Callable[[], None]) -> None:
        """Unless the workers were started again in the meantime."""
        with self._lock:
            if self._round == round_:
                change()
