"""Worlds of ranks: each is started once, by torchrun's API, for all trials on as many ranks."""

from __future__ import annotations

import multiprocessing
import pickle
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from tests.distributed.cases import Trial, trials
from tests.distributed.trial import Record, run_trial

HAS_DEEPSPEED = find_spec("deepspeed") is not None
PRELOADED = ["axo.train.run", "peft", "transformers.models.llama", "transformers.models.qwen2"]


class Worlds:
    """Records of trials, made when they are first asked for; `folder` is shared by all processes of a test run."""

    def __init__(self, folder: Path, *, models: Path) -> None:
        self._folder, self._models = folder, models
        self._single: dict[Trial, Record] = {}
        self._found: dict[str, dict[Any, Any]] = {}

    def single(self, case: str, *, engine: str = "single") -> Record:
        """One device, in this process."""
        trial = Trial(engine, case)
        if trial not in self._single:
            self._single[trial] = run_trial(trial, models=self._models)
        return self._single[trial]

    def record(self, trial: Trial) -> Record:
        """The trial's, of a world that runs all fast ones or all others on as many ranks."""
        found = self._world(trial.world_size, fast=trial.is_fast)[trial]
        assert isinstance(found, Record), f"{trial}: {found}"
        return found

    def overflow(self, world_size: int) -> Any:
        return self._world(world_size, fast=world_size == 2)["overflow"]

    def _world(self, world_size: int, *, fast: bool) -> dict[Any, Any]:
        name = f"{world_size}{' fast' if fast else ''}"
        if name not in self._found:
            path = self._folder / f"{name}.pickle"
            with FileLock(self._folder / f"{name}.lock"):
                if not path.exists():
                    chosen = [one for one in trials() if one.world_size == world_size and one.is_fast == fast]
                    _start(world_size, [one for one in chosen if can_run(one)], models=self._models, out=path)
            self._found[name] = pickle.loads(path.read_bytes())
        return self._found[name]


def can_run(trial: Trial) -> bool:
    return HAS_DEEPSPEED or not trial.engine.startswith("zero")


def _start(world_size: int, chosen: Sequence[Trial], *, models: Path, out: Path) -> None:
    """Workers are forked from a process that has imported what they need: once, not once a rank."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from tests.distributed.worker import work

    multiprocessing.set_forkserver_preload([*PRELOADED, *(["deepspeed"] if HAS_DEEPSPEED else [])])
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=world_size, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.1, signals_to_handle="",
        start_method="forkserver",
    )  # fmt: skip
    elastic_launch(config, entrypoint=work)(list(chosen), str(models), str(out))
