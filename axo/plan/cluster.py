"""The nodes that train together, as options or the environment name them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Where this node stands among the nodes of a run."""

    num_nodes: int = 1
    node_rank: int = 0
    rdzv_endpoint: str | None = None
    """host:port where the nodes meet; None: this node is alone."""
    workers_a_node: int | None = None
    """Workers that a launcher was told to start on each node; None: the Plan decides."""
    found_in: str = ""
    """What said so, such as `--nnodes` or SLURM, for people."""
