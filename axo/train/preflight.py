"""Before a model is loaded, all ranks compare what they are about to do; one that differs or is mute is named."""

from __future__ import annotations

import json
import platform
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from axo.errors import CheckpointError, LaunchError
from axo.log import LOG
from axo.train.agreement import SHOWN, Card, difference, facts
from axo.train.checkpoint import clear_leftovers, newest
from axo.train.job import Job
from axo.train.place import Place

TELL_SECONDS = 60
"""After so long without a word from a rank it is named; many nodes that import from one file system may be slow."""
MUTE_SECONDS = 600
"""After so long the run ends for it."""
SHARED_SECONDS = 15
"""How long a file that another node wrote may take to be seen: NFS keeps what it knows of a folder for some seconds."""
VERIFY_SECONDS = 3600
"""How long rank 0 may take to prove a checkpoint whole when workers are started again: it reads all of it."""


class Preflight:
    """Called with the store that all ranks share, before the process group is made. Then `resume` is rank 0's decision
    where to go on, and `cards` are those of all ranks (on rank 0)."""

    def __init__(
        self, job: Job, place: Place, *, output_dir: Path, mute_seconds: float = MUTE_SECONDS,
        shared_seconds: float = SHARED_SECONDS,
    ) -> None:  # fmt: skip
        self._job, self._place, self._output_dir = job, place, output_dir
        self._mute_seconds, self._shared_seconds = mute_seconds, shared_seconds
        self.resume = job.resume
        self.cards: list[Card] = []

    def __call__(self, store: dist.Store, rank: int, world_size: int) -> dist.Store:
        """A store of this start: torchrun keeps one for all of them, with what workers that died left in it. Raises
        LaunchError, the same one on all ranks."""
        own = dist.PrefixStore(f"axo/start-{self._place.restarts}", store)
        cards = dist.PrefixStore("preflight", own)
        if rank == 0:
            self._lead(cards, world_size)
        else:
            self._follow(cards, rank)
        return own

    def _lead(self, store: dist.Store, world_size: int) -> None:
        output_dir = self._output_dir
        token = output_dir / f".meeting-{uuid.uuid4().hex}"
        _touch(token)
        try:
            first = Card(0, self._place.host, self._place.node, self._place.local_rank, self._device(), {})
            store.set("0", json.dumps({"facts": facts(self._job), "token": token.name, "card": asdict(first)}))
            self.cards, mute = [first], list(range(1, world_size))
            mute = self._hear(store, mute, seconds=min(TELL_SECONDS, self._mute_seconds))
            if mute and self._mute_seconds > TELL_SECONDS:
                LOG.warning("%s; waiting", self._mute(mute, world_size, seconds=TELL_SECONDS)[0])
                mute = self._hear(store, mute, seconds=self._mute_seconds - TELL_SECONDS)
            self.cards.sort(key=lambda card: card.rank)
        finally:
            token.unlink(missing_ok=True)
        silent = self._mute(mute, world_size, seconds=self._mute_seconds) if mute else None
        fault = silent or difference(self.cards, output_dir)
        if fault is None and self._place.restarts:
            clear_leftovers(output_dir)
            self.resume = newest(output_dir) or self._job.resume
        resume = None if self.resume is None else str(self.resume)
        store.set("verdict", json.dumps({"fault": fault, "resume": resume}))
        _raise(fault)

    def _hear(self, store: dist.Store, ranks: list[int], *, seconds: float) -> list[int]:
        """Those of the ranks that said nothing; the cards of the others are kept."""
        mute, deadline = list[int](), time.monotonic() + seconds
        for rank in ranks:
            answer = _wait(store, str(rank), deadline)
            mute.append(rank) if answer is None else self.cards.append(Card(**answer))
        return mute

    def _follow(self, store: dist.Store, rank: int) -> None:
        leader = _wait(store, "0", time.monotonic() + self._mute_seconds)
        if leader is None:
            where = f" (host {self._place.hosts[0]})" if self._place.hosts else ""
            raise LaunchError(
                f"rank 0{where} was not heard of by rank {rank} on host {self._place.host} within "
                f"{self._mute_seconds:g} s",
                "look at the messages of that host: it may be slow to import, or hang",
            )
        mine = facts(self._job)
        differences = {
            name: (mine.get(name, "nothing"), leader["facts"].get(name, "nothing"))
            for name in sorted({*mine, *leader["facts"]}, key=lambda name: (name.startswith("plan."), name))
            if mine.get(name) != leader["facts"].get(name)
        }
        sees = self._place.local_rank != 0 or self._place.node == leader["card"]["node"]
        sees = sees or self._sees(self._output_dir / leader["token"])
        card = Card(rank, self._place.host, self._place.node, self._place.local_rank, self._device(), differences, sees)
        store.set(str(rank), json.dumps(asdict(card)))
        patience = 2 * self._mute_seconds + self._shared_seconds + VERIFY_SECONDS * bool(self._place.restarts)
        verdict = _wait(store, "verdict", time.monotonic() + patience)
        if verdict is None:
            raise LaunchError(
                f"rank 0 on host {leader['card']['host']} fell silent while ranks compared themselves",
                "look at the messages of that host",
            )
        _raise(verdict["fault"])
        self.resume = None if verdict["resume"] is None else Path(verdict["resume"])

    def _sees(self, token: Path) -> bool:
        """Whether this node's output_dir is that of rank 0."""
        deadline = time.monotonic() + self._shared_seconds
        while not token.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _device(self) -> str:
        return torch.cuda.get_device_name() if self._job.plan.engine.device == "cuda" else platform.machine()

    def _mute(self, mute: list[int], world_size: int, *, seconds: float) -> list[str]:
        """Message and hint."""
        a_node = max(1, world_size // max(1, self._job.plan.engine.num_nodes))
        hosts = {card.rank // a_node: card.host for card in self.cards} | dict(enumerate(self._place.hosts))
        named = [f"rank {rank} on {_host_words(hosts.get(rank // a_node), rank // a_node)}" for rank in mute[:SHOWN]]
        more = f" and {len(mute) - SHOWN} more" if len(mute) > SHOWN else ""
        came = f"{world_size - len(mute)} of {world_size} ranks are there"
        message = f"{', '.join(named)}{more} said nothing within {seconds:g} s; {came}"
        return [message, "look at the messages of that host: the worker may be slow to import, or hang"]


def _host_words(host: str | None, node: int) -> str:
    return f"node {node} (host not known)" if host is None else f"host {host}"


def _touch(token: Path) -> None:
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise CheckpointError(f"output_dir {token.parent} cannot be written to: {error.strerror}") from error


def _wait(store: dist.Store, key: str, deadline: float) -> Any:
    """What a key holds once it is there; None after the deadline."""
    while not store.check([key]):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    return json.loads(store.get(key))


def _raise(fault: list[str] | None) -> None:
    if fault is not None:
        raise LaunchError(*fault)
