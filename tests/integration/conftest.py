"""Runs so small that they can be repeated hundreds of times: a tiny model, 26 short rows, half a second of training."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.register_assert_rewrite("tests.integration.laws")

WORDS = "the quick brown fox jumps over a lazy dog while seven zebras watch and nobody answers the question".split()
ROWS = 26
"""With 4 rows a step: 7 steps an epoch, the last of 2 rows."""
STATE = ("engine/weights.safetensors", "engine/optimizer.safetensors", "engine/optimizer.json", "rng-00000.safetensors",
         "train_state.json")  # fmt: skip
"""Files of a checkpoint that hold the state of a run on one device."""
PATIENCE_SECONDS = 240


class Child:
    """A forked process that runs `work`: as good as a new one for files, signals and locks, without its imports."""

    def __init__(self, work: Callable[[], None], *, log: Path) -> None:
        self._log = log
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work)

    def _run(self, work: Callable[[], None]) -> None:
        code = 1
        for number in (signal.SIGTERM, signal.SIGINT):  # a child starts as a command does, whatever tests before set
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        try:
            output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def wait(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code; minus the signal's number where one ended the process."""
        await_true(self.ended, what="the end of a child", seconds=seconds)
        assert self._code is not None
        return self._code

    def output(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


def await_true(condition: Callable[[], bool], *, what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Raises TimeoutError where the condition does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.005)


class Runs:
    """Recipes over one model and one data set; the run of each has a folder of its own below `folder`."""

    def __init__(self, folder: Path, *, base_model: Path, prepared: Path) -> None:
        self.folder = folder
        data = folder / "rows.jsonl"
        draw = random.Random(0)
        with data.open("w") as file:
            for _ in range(ROWS):
                file.write(json.dumps({"text": " ".join(draw.choices(WORDS, k=draw.randint(2, 20)))}) + "\n")
        self._common: dict[str, Any] = {
            "base_model": str(base_model),
            "datasets": [{"path": str(data), "type": "completion"}],
            "dataset_prepared_path": str(prepared),
            "sequence_len": 96,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 4,
            "learning_rate": 1e-2,
            "num_epochs": 2,
            "warmup_steps": 2,
            "save_steps": 2,
            "logging_steps": 1,
            "eval_strategy": "no",
        }

    def recipe(self, name: str, **keys: Any) -> Path:
        """Write a recipe whose output_dir is `folder/name`; a key of None is left out."""
        values = {**self._common, "output_dir": str(self.folder / name), **keys}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    def train(self, name: str, **keys: Any) -> Path:
        """Train in this process, or go on with what is there; returns the output_dir."""
        train_here(self.recipe(name, **keys))
        return self.folder / name

    def start(
        self, name: str, *, first: Callable[[], object] | None = None, name_of_log: str | None = None, **keys: Any
    ) -> Child:
        """Start `axo train` in a child that calls `first` before."""
        recipe = self.recipe(name, **keys)

        def work() -> None:
            if first is not None:
                first()
            axo("train", str(recipe))

        return self.fork(work, name=name_of_log or name)

    def fork(self, work: Callable[[], None], *, name: str = "child") -> Child:
        """Run something in a child; what it prints goes to `folder/name.log`."""
        return Child(work, log=self.folder / f"{name}.log")

    @staticmethod
    def metrics(output_dir: Path) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl without what depends on the clock and the process."""
        lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
        timed = {"tokens_per_second", "peak_memory_bytes"}
        return [{key: value for key, value in line.items() if key not in timed} for line in lines]

    @staticmethod
    def steps(output_dir: Path) -> int:
        """Steps that stand in metrics.jsonl so far."""
        path = output_dir / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    @staticmethod
    def state(output_dir: Path, step: int) -> dict[str, bytes]:
        """Weights, optimizer, random states and position at a step, as bytes."""
        return {name: (output_dir / f"checkpoint-{step}" / name).read_bytes() for name in STATE}

    @staticmethod
    def trained(output_dir: Path) -> bytes:
        """The weights that the run left."""
        (path,) = output_dir.glob("*.safetensors")
        return path.read_bytes()


def axo(*words: str) -> None:
    """The command line, in this process; ends with SystemExit."""
    from axo.cli.main import main

    sys.argv = ["axo", *words]
    main()


def train_here(recipe: Path) -> None:
    """What `axo train` does after its imports."""
    from axo.recipe.read import read_recipe
    from axo.workflows.train import train

    train(read_recipe(recipe, overrides=[]), fresh=False, show_plan=lambda plan: None, show=lambda line: None)


@pytest.fixture
def runs(tmp_path: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Recipes in a fresh folder. Prepared data is shared by all tests of a process."""
    return Runs(tmp_path, base_model=tiny_llama_dir, prepared=tmp_path_factory.getbasetemp() / "prepared")


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Wait until something is true."""
    return await_true
