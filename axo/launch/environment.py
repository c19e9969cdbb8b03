"""The environment that workers start with, set from the Plan before torch is imported: the one place that does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from axo.plan.plan import EnginePlan


def set_environment(engine: EnginePlan) -> None:
    """For this process and those that it starts. What nccl, gloo and torch do by themselves is left alone: since torch
    2.2 a collective that fails or runs into its timeout ends the process, which is what axo wants."""
    os.environ |= variables(engine)


def variables(engine: EnginePlan) -> dict[str, str]:
    """Names and values that the Plan asks for."""
    found = {"OMP_NUM_THREADS": str(engine.threads)}
    if engine.device == "cpu":
        found["DS_ACCELERATOR"] = "cpu"  # wherever DeepSpeed is imported: it would look for GPUs that axo does not use
    return found


@contextmanager
def only_rank(engine: EnginePlan) -> Iterator[None]:
    """What a launcher tells a worker, for one that nobody tells: DeepSpeed wants a process group for one rank too."""
    if engine.world_size > 1 or engine.name != "deepspeed" or "RANK" in os.environ:
        yield
        return
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    alone["MASTER_PORT"] = str(free_port())
    os.environ |= alone
    try:
        yield
    finally:
        for name in alone:
            os.environ.pop(name, None)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        return taken.getsockname()[1]


_ACCELERATE = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "its parallelism configuration",
}
"""What `accelerate launch` tells the libraries of a worker: transformers loads a model in another way for it."""


def asked_of_accelerate(environment: Mapping[str, str] | None = None) -> list[str]:
    """What accelerate's configuration would wrap a model into, where this process was started by it."""
    environment = os.environ if environment is None else environment
    return [what for name, what in _ACCELERATE.items() if environment.get(name, "").lower() in ("1", "true", "yes")]


@contextmanager
def without_accelerate() -> Iterator[None]:
    """Leave out what accelerate tells transformers about a model that axo's own engine places."""
    former = {name: os.environ.pop(name) for name in _ACCELERATE if name in os.environ}
    try:
        yield
    finally:
        os.environ |= former
