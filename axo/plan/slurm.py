"""What SLURM says about the nodes of its job to every process that it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from axo.errors import LaunchError

FIRST_PORT, NUM_PORTS = 20_000, 10_000
"""Where nodes of a job meet: below the ports that Linux gives to clients (from 32768), another for each job."""


@dataclass(frozen=True)
class Slurm:
    """A job, or the step of it that this process belongs to."""

    job: int
    num_nodes: int
    node: int
    """The number of this node, from 0."""
    first_host: str

    @property
    def port(self) -> int:
        return FIRST_PORT + self.job % NUM_PORTS


def find_slurm(environment: Mapping[str, str], *, starting: bool) -> Slurm | None:
    """None outside of a job. With `starting`, raises LaunchError where workers could not meet: more than one task a
    node, or several nodes of which `srun` has not started a task on each."""
    job = environment.get("SLURM_JOB_ID", "")
    nodes = _first(environment, "SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    if not job.isdigit() or not nodes.isdigit():
        return None
    hosts = _first(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    num_nodes = int(nodes)
    if starting:
        _check_tasks(environment, num_nodes)
    node = _first(environment, "SLURM_NODEID")
    first = next(expand(hosts), "localhost")
    return Slurm(int(job), num_nodes, int(node) if node.isdigit() else 0, first)


def _check_tasks(environment: Mapping[str, str], num_nodes: int) -> None:
    in_step = bool(_first(environment, "SLURM_STEP_ID", "SLURM_STEPID"))
    if not in_step:
        if num_nodes > 1:
            raise LaunchError(
                f"the SLURM job has {num_nodes} nodes, and axo was started on one of them without srun",
                "start it on each: `srun --ntasks-per-node=1 axo train ...`; or give --nnodes 1 to train on this one",
            )
        return
    tasks = _first(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    if tasks.isdigit() and int(tasks) > num_nodes:
        raise LaunchError(
            f"SLURM started {tasks} tasks on {num_nodes} node{'s' * (num_nodes != 1)}, as if there were one for each "
            "GPU; axo wants one on each node, and starts the workers itself",
            "give srun `--ntasks-per-node=1`",
        )


def expand(hosts: str) -> Iterator[str]:
    """The hosts of SLURM's short form: `gpu[001-003,007],login` is gpu001, gpu002, gpu003, gpu007, login."""
    for part in _split(hosts):
        yield from _expand_one(part)


def _split(hosts: str) -> list[str]:
    """Parts between commas that stand outside of brackets."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", hosts) if part.strip()]


def _expand_one(part: str) -> Iterator[str]:
    """The first bracket of a part, then those behind it."""
    match = re.match(r"([^\[]*)\[([^\]]*)\](.*)", part)
    if match is None:
        yield part
        return
    before, ranges, behind = match.groups()
    for each in ranges.split(","):
        low, _, high = each.strip().partition("-")
        for number in range(int(low), int(high or low) + 1):
            yield from (f"{before}{number:0{len(low)}d}{rest}" for rest in _expand_one(behind))


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((value for name in names if (value := environment.get(name, "").strip())), "")
