"""Whether a launcher started this process as one of several workers, as torchrun, accelerate and deepspeed do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from axo.errors import LaunchError
from axo.plan.cluster import Cluster


@dataclass(frozen=True)
class Started:
    """This worker among all of them."""

    rank: int
    world_size: int
    local_rank: int
    workers_a_node: int
    restarts: int = 0
    """How often torchrun has started its workers again."""
    elastic: bool = False
    """torchrun's agent is above it, which takes every exit code but 0 for a death, and may start workers again."""

    @property
    def cluster(self) -> Cluster:
        return Cluster(
            num_nodes=self.world_size // self.workers_a_node,
            node_rank=self.rank // self.workers_a_node,
            workers_a_node=self.workers_a_node,
            found_in=f"the launcher that started this process: WORLD_SIZE={self.world_size}",
        )


def find_started(environment: Mapping[str, str] | None = None) -> Started | None:
    """None where nothing but axo itself starts workers. Raises LaunchError for half of what a worker needs."""
    environment = os.environ if environment is None else environment
    said = {name: environment.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    world_size = said["WORLD_SIZE"]
    if not all(said.values()):
        # a batch system that names pods so, or what is left of a shell's exports: each would train on its own
        if said["RANK"] and world_size.isdigit() and int(world_size) > 1:
            raise LaunchError(
                f"RANK={said['RANK']} and WORLD_SIZE={world_size} are set, and LOCAL_RANK is not",
                "a launcher sets all three for a worker; where they count nodes, unset both and give --nnodes, "
                "--node-rank and --rdzv-endpoint instead",
            )
        return None
    if not all(value.isdigit() for value in said.values()):
        text = ", ".join(f"{name}={value}" for name, value in said.items())
        raise LaunchError(f"found {text} in the environment, expected whole numbers", "unset them, or use a launcher")
    rank, local_rank = int(said["RANK"]), int(said["LOCAL_RANK"])
    a_node = _workers_a_node(environment, rank, local_rank, int(world_size))
    restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return Started(rank, int(world_size), local_rank, a_node, restarts, elastic="TORCHELASTIC_RUN_ID" in environment)


def _workers_a_node(environment: Mapping[str, str], rank: int, local_rank: int, world_size: int) -> int:
    """torchrun and accelerate say LOCAL_WORLD_SIZE, deepspeed LOCAL_SIZE; others are understood on one node."""
    text = environment.get("LOCAL_WORLD_SIZE") or environment.get("LOCAL_SIZE") or ""
    if not text and rank == local_rank:
        return world_size
    if not text.isdigit() or int(text) < 1 or world_size % int(text):
        raise LaunchError(
            f"WORLD_SIZE is {world_size} and LOCAL_WORLD_SIZE is {text or 'not set'}: how many workers a node has "
            "is not known",
            "every node needs as many workers as the others: set LOCAL_WORLD_SIZE to their number",
        )
    return int(text)
