"""The nodes that train together, as options, the environment or SLURM name them; see find_cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from axo.errors import LaunchError
from axo.plan.slurm import find_slurm

DEFAULT_PORT = 29400
"""Of the place where nodes meet; torchrun's for its c10d rendezvous."""


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


@dataclass(frozen=True)
class Asked:
    """The options of the command line, as they were given."""

    nnodes: int | None = None
    node_rank: int | None = None
    rdzv_endpoint: str | None = None


@dataclass(frozen=True)
class _Named:
    """A value and who says it, for people."""

    name: str
    value: str


_NNODES = ("NNODES", "PET_NNODES")
_NODE_RANK = ("NODE_RANK", "PET_NODE_RANK")
_ENDPOINT = ("RDZV_ENDPOINT", "PET_RDZV_ENDPOINT")
_A_NODE = ("PET_NPROC_PER_NODE",)


def find_cluster(asked: Asked, environment: Mapping[str, str] | None = None, *, starting: bool = True) -> Cluster:
    """The nodes of this run: options come before environment variables, and those before what SLURM says.

    `environment` is the process's own where it is None. With `starting` False workers will not be started, and the
    run is only described: the number of nodes is enough. Raises LaunchError for what is incomplete or contradicts
    itself."""
    environment = os.environ if environment is None else environment
    nnodes = _asked("--nnodes", asked.nnodes) or _variable(environment, _NNODES)
    slurm = find_slurm(environment, starting=starting and nnodes is None)
    if nnodes is None and slurm is not None:
        nnodes = _Named(f"SLURM_JOB_NUM_NODES of job {slurm.job}", str(slurm.num_nodes))
    node_rank = _asked("--node-rank", asked.node_rank) or _variable(environment, _NODE_RANK)
    endpoint = _asked("--rdzv-endpoint", asked.rdzv_endpoint) or _variable(environment, _ENDPOINT)
    num_nodes = 1 if nnodes is None else _count(nnodes)
    workers = _workers(environment)
    if num_nodes == 1:
        if starting:
            _check_alone(nnodes, node_rank, endpoint)
        return Cluster(workers_a_node=workers, found_in=_A_NODE[0] if workers else "")
    assert nnodes is not None
    if slurm is not None:
        node_rank = node_rank or _Named("SLURM_NODEID", str(slurm.node))
        endpoint = endpoint or _Named("SLURM_JOB_NODELIST", f"{slurm.first_host}:{slurm.port}")
    endpoint = endpoint or _master(environment)
    if not starting:
        return Cluster(num_nodes, workers_a_node=workers, found_in=nnodes.name)
    rank = _rank(node_rank, num_nodes=num_nodes, nnodes=nnodes)
    return Cluster(num_nodes, rank, _address(endpoint, nnodes), workers, nnodes.name)


def _asked(option: str, value: object) -> _Named | None:
    return None if value is None else _Named(option, str(value))


def _variable(environment: Mapping[str, str], names: Sequence[str]) -> _Named | None:
    """The one value of these variables; two of them may not say two things."""
    found = [_Named(name, value) for name in names if (value := environment.get(name, "").strip())]
    if len({each.value for each in found}) > 1:
        said = " and ".join(f"{each.name}={each.value}" for each in found)
        raise LaunchError(f"the environment contradicts itself: {said}", "unset one of them, or give the option")
    return found[0] if found else None


def _master(environment: Mapping[str, str]) -> _Named | None:
    host, port = environment.get("MASTER_ADDR", "").strip(), environment.get("MASTER_PORT", "").strip()
    return _Named("MASTER_ADDR", f"{host}:{port}" if port else host) if host else None


def _count(named: _Named) -> int:
    if ":" in named.value:
        raise LaunchError(
            f"{named.name} is {named.value}, a range; the steps of a run are planned for one number of nodes",
            f"set {named.name} to that number",
        )
    return _number(named, least=1, what="a number of nodes")


def _rank(named: _Named | None, *, num_nodes: int, nnodes: _Named) -> int:
    if named is None:
        raise LaunchError(
            f"{nnodes.name} says {num_nodes} nodes, and nothing says which of them this one is",
            f"give --node-rank (or NODE_RANK): 0 on the first node, ..., {num_nodes - 1} on the last",
        )
    rank = _number(named, least=0, what="the number of a node")
    if rank >= num_nodes:
        raise LaunchError(
            f"{named.name} is {rank}, but there are {num_nodes} nodes ({nnodes.name}): they count from 0",
            f"expected 0 to {num_nodes - 1}",
        )
    return rank


def _address(named: _Named | None, nnodes: _Named) -> str:
    if named is None:
        raise LaunchError(
            f"{nnodes.name} says {nnodes.value} nodes, and nothing says where they meet",
            "give --rdzv-endpoint HOST:PORT (or RDZV_ENDPOINT) of the first node, the same on every node",
        )
    host, colon, port = named.value.rpartition(":")
    if not colon or named.value.endswith("]"):  # an IPv6 address stands in brackets
        host, port = named.value, str(DEFAULT_PORT)
    good = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not host or not good or (":" in host and not host.startswith("[")) or " " in named.value:
        raise LaunchError(f"{named.name} is {named.value}, expected HOST:PORT", "for example node0.cluster:29400")
    return f"{host}:{port}"


def _check_alone(nnodes: _Named | None, node_rank: _Named | None, endpoint: _Named | None) -> None:
    """What speaks of several nodes where there is one: without it, each of them would train on its own."""
    said = "says one node" if nnodes is not None else "nothing says how many nodes there are"
    said = f"{nnodes.name} {said}" if nnodes is not None else said
    if node_rank is not None and _number(node_rank, least=0, what="the number of a node") > 0:
        raise LaunchError(
            f"{node_rank.name} is {node_rank.value}, and {said}", "give --nnodes (or NNODES) on every node"
        )
    if endpoint is not None and nnodes is None:
        raise LaunchError(f"{endpoint.name} is {endpoint.value}, and {said}", "give --nnodes (or NNODES) on every node")


def _workers(environment: Mapping[str, str]) -> int | None:
    """PET_NPROC_PER_NODE, where it is a number; `auto` and `gpu` are what the Plan does anyway."""
    named = _variable(environment, _A_NODE)
    if named is None or named.value in ("auto", "gpu"):
        return None
    return _number(named, least=1, what="a number of workers")


def _number(named: _Named, *, least: int, what: str) -> int:
    text = named.value
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise LaunchError(f"{named.name} is {text!r}, expected {what}, {least} or more")
    return int(text)
