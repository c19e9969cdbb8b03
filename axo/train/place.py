"""Where a worker stands among the others, as its launcher says, and how it says where it is in the run."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from axo.train.hang import Mark, no_mark


@dataclass(frozen=True)
class Place:
    """Of one worker process; the defaults are those of one that is alone."""

    host: str = field(default_factory=socket.gethostname)
    node: str = "0"
    """Workers of one node have the same name here."""
    local_rank: int = 0
    restarts: int = 0
    """How often all workers were started again because one of them died."""
    hosts: tuple[str, ...] = ()
    """Of all nodes in the order of their ranks, where the launcher tells them."""
    mark: Mark = no_mark


def place_in(environment: Mapping[str, str], *, hosts: tuple[str, ...] = (), mark: Mark = no_mark) -> Place:
    """What torchrun's variables say; a launcher that gives nodes no number has them told apart by their host."""
    host = socket.gethostname()
    return Place(
        host=host,
        node=environment.get("GROUP_RANK", host),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
        restarts=int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")),
        hosts=hosts,
        mark=mark,
    )
