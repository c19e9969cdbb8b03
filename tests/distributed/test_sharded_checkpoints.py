"""C2 with shards: a save that fails or is killed on one rank leaves the checkpoint before, and says where it failed."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import distribute_tensor

from axo.engines.fsdp import FSDP
from axo.errors import CheckpointError
from axo.plan.plan import FSDPPlan
from axo.train import checkpoint, manifest
from axo.train.checkpoint import Checkpoints
from axo.train.events import Progress
from tests.distributed.forked import run_ranks

pytestmark = pytest.mark.distributed
NEVER = 10**9


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 64)


def prepared(step: int) -> Any:
    """An engine inside its process group whose weights follow from the step."""
    engine: Any = FSDP(device="cpu", autocast_dtype=None, timeout_seconds=30, settings=FSDPPlan(shard=2))
    context = engine.construct()
    context.__enter__()
    set_to(engine, step)
    return engine


def set_to(engine: Any, step: int) -> None:
    torch.manual_seed(step)
    engine.prepare(Model(), lambda module: torch.optim.AdamW(module.parameters(), lr=0.1))
    for parameter in engine._parameters:
        parameter.grad = distribute_tensor(torch.randn(parameter.shape), parameter.device_mesh, parameter.placements)
    engine._optimizer.step()


def checkpoints_of(engine: Any, root: Path) -> Checkpoints:
    return Checkpoints(
        root=root, engine=engine, save_total_limit=1, facts={"trajectory": {}, "world_size": 2},
        write_model=lambda folder: None,
    )  # fmt: skip


def save(engine: Any, root: Path, step: int) -> Path:
    return checkpoints_of(engine, root).save(Progress(step=step))


def parts(engine: Any) -> list[torch.Tensor]:
    """What of weights and moments lies on this rank."""
    every = [*engine._parameters, *(one for state in engine._optimizer.state.values() for one in state.values())]
    return [(one.to_local() if hasattr(one, "to_local") else one).detach().clone() for one in every]


def go_on(root: Path, step: int) -> Callable[[int], None]:
    """Load the newest checkpoint, which must be that of the step to the bit, and save again."""

    def work(rank: int) -> None:
        engine = prepared(step)
        expected, draw = parts(engine), torch.get_rng_state()
        set_to(engine, 99)
        progress = checkpoints_of(engine, root).load(root / f"checkpoint-{step}")
        assert progress.step == step
        assert all(torch.equal(one, two) for one, two in zip(parts(engine), expected, strict=True))
        assert torch.equal(torch.get_rng_state(), draw)
        save(engine, root, 7)
        engine.close()

    return work


def test_a_full_disk_on_one_rank_is_an_error_of_all_and_names_it(tmp_path: Path) -> None:
    root = tmp_path / "run"

    def work(rank: int) -> None:
        engine = prepared(1)
        save(engine, root, 1)
        set_to(engine, 2)
        if rank == 1:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
        begun = time.monotonic()
        try:
            save(engine, root, 2)
        except CheckpointError as error:
            said = {"message": error.message, "hint": error.hint, "seconds": time.monotonic() - begun}
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        (tmp_path / f"said-{rank}.json").write_text(json.dumps(said))
        save(engine, root, 3)
        engine.close()

    run_ranks(2, work, log=tmp_path / "log")
    for rank in range(2):
        said = json.loads((tmp_path / f"said-{rank}.json").read_text())
        assert f"rank 1 on host {socket.gethostname()}: {root / 'checkpoint-2'} could not be written" in said["message"]
        assert "checkpoints saved before are whole" in said["hint"]
        assert said["seconds"] < 20
    assert [path.name for path in root.iterdir()] == ["checkpoint-3"]
    manifest.verify(root / "checkpoint-3")


def test_each_rank_hashes_its_own_files_and_rank_0_reads_no_other(tmp_path: Path) -> None:
    """Of another host's shards rank 0 would read as many bytes as the model has."""
    root = tmp_path / "run"

    def work(rank: int) -> None:
        read: list[str] = []
        sys.addaudithook(lambda event, arguments: read.append(str(arguments[0])) if event == "open" else None)
        engine = prepared(1)
        save(engine, root, 1)
        ours = [name for name in read if name.endswith(".safetensors")]
        assert ours and all(f"-{rank:05d}" in name for name in ours), ours
        engine.close()

    run_ranks(2, work, log=tmp_path / "log")
    manifest.verify(root / "checkpoint-1")
    files = json.loads((root / "checkpoint-1" / manifest.MANIFEST).read_text())["files"]
    there = {path.relative_to(root / "checkpoint-1").as_posix() for path in root.rglob("*") if path.is_file()}
    assert set(files) == there - {manifest.MANIFEST}


def die_at(number: int, *, below: Path, count: Path) -> None:
    """Kill this process in front of a file operation below a folder, counted from 1."""
    seen, descriptor = 0, os.open(count, os.O_WRONLY | os.O_CREAT)
    events = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in events and str(arguments[0]).startswith(str(below)):
            seen += 1
            os.write(descriptor, b".")
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


def kill_in_a_save(tmp_path: Path, *, victim: int, number: int) -> int:
    """A save after that of step 1 in which a rank is killed; the number of file operations it came to."""
    root = tmp_path / "run"

    def work(rank: int) -> None:
        engine = prepared(1)
        save(engine, root, 1)
        set_to(engine, 2)
        if rank == victim:
            die_at(number, below=root, count=tmp_path / "count")
        save(engine, root, 2)
        engine.close()

    if number == NEVER:
        run_ranks(2, work, log=tmp_path / "log")
    else:
        with pytest.raises(AssertionError, match="-9"):
            run_ranks(2, work, log=tmp_path / "log")
    return (tmp_path / "count").stat().st_size


@pytest.mark.parametrize(("victim", "number"), [(1, 2), (0, 6)])
def test_a_rank_that_is_killed_in_a_save_leaves_a_checkpoint_that_is_gone_on_from(
    tmp_path: Path, victim: int, number: int
) -> None:
    kill_in_a_save(tmp_path, victim=victim, number=number)
    whole = checkpoint.newest(tmp_path / "run")
    assert whole is not None
    run_ranks(2, go_on(tmp_path / "run", checkpoint.step_of(whole)), log=tmp_path / "again")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-7"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_in_front_of_every_file_operation_of_a_sharded_save(tmp_path: Path, victim: int) -> None:
    (tmp_path / "all").mkdir()
    total = kill_in_a_save(tmp_path / "all", victim=victim, number=NEVER)
    assert total > 3
    steps = set[int]()
    for number in range(1, total + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_in_a_save(folder, victim=victim, number=number)
        whole = checkpoint.newest(folder / "run")
        assert whole is not None, number
        steps.add(checkpoint.step_of(whole))
        run_ranks(2, go_on(folder / "run", checkpoint.step_of(whole)), log=folder / "again")
    assert steps == ({1, 2} if victim == 0 else {1})
