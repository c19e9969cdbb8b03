"""What must be the same on all ranks before they train together, and how a difference is told."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import axo
from axo.train.job import Job

COMPARED_PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "deepspeed", "bitsandbytes", "torchao")
SHOWN = 6
_OWN = ("plan.engine.threads", "plan.decisions", "plan.memory")
"""Parts of a Plan that may differ from node to node: they say what a machine has."""


@dataclass(frozen=True)
class Card:
    """What a rank says after it has compared itself with rank 0."""

    rank: int
    host: str
    node: str
    local_rank: int
    device: str
    differences: dict[str, tuple[str, str]]
    """Name -> what it is here, what it is on rank 0."""
    sees_output_dir: bool = True

    @property
    def name(self) -> str:
        return f"rank {self.rank} on host {self.host}"


def facts(job: Job) -> dict[str, str]:
    """What must be the same on all ranks, by name: versions, every key of the recipe, the Plan, hashes of the data."""
    found = {"axo": axo.__version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for package in COMPARED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    inputs = {name: value for name, value in job.inputs.items() if name != "versions"}
    found |= _leaves({**inputs, **job.trajectory, **job.recipe}, "")
    found |= _leaves({"plan": job.plan.model_dump(mode="json")}, "")
    return {name: value for name, value in found.items() if not name.startswith(_OWN)}


def _leaves(tree: Any, name: str) -> dict[str, str]:
    if isinstance(tree, Mapping):
        return {k: v for key, value in tree.items() for k, v in _leaves(value, f"{name}.{key}".lstrip(".")).items()}
    return {name: str(tree)}


def difference(cards: list[Card], output_dir: Path) -> list[str] | None:
    """Message and hint about the first ranks that are not what rank 0 is."""
    for card in cards:
        if not card.sees_output_dir:
            return [
                f"output_dir {output_dir} is not the same folder on host {card.host} (rank {card.rank}) and on host "
                f"{cards[0].host} (rank 0)",
                "name a folder that all nodes share: checkpoints are written into it by all of them",
            ]
    odd = [card for card in cards if card.differences]
    if not odd:
        return None
    lines = [
        f"  {name}: {_short(here)} there, {_short(there)} on rank 0"
        for name, (here, there) in list(odd[0].differences.items())[:SHOWN]
    ]
    more = len(odd[0].differences) - SHOWN
    lines += [f"  and {more} more"] if more > 0 else []
    others = [f"  so do {len(odd) - 1} other ranks"] if len(odd) > 1 else []
    message = "\n".join([f"{odd[0].name} differs from {cards[0].name}:", *lines, *others])
    return [message, "run the same command with the same files in the same environment on every node"]


def _short(value: str) -> str:
    return value if len(value) <= 80 else f"{value[:77]}..."
