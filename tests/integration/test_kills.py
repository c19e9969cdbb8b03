"""C2: SIGKILL in front of any file operation of a save or a run leaves what the same command goes on from."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from axo.engines.single import Single
from axo.train import checkpoint
from axo.train.checkpoint import Checkpoints
from axo.train.events import Progress

if TYPE_CHECKING:
    from tests.integration.conftest import Child, Runs

FILE_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"})
"""Audit events of what changes a folder; each is raised in front of the operation."""
NEVER = 10**9


def die_at(number: int, *, below: Path, log: Path | None = None) -> None:
    """Kill this process in front of a file operation below a folder (counted from 1); their names go to `log`."""
    seen = 0
    descriptor = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT)

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in FILE_EVENTS or not concerns(str(arguments[0]), below):
            return
        seen += 1
        if descriptor is not None:
            os.write(descriptor, f"{event}\n".encode())
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


def concerns(path: str, folder: Path) -> bool:
    """A path below the folder, or one relative to an open folder, as rmtree uses them."""
    return path.startswith(str(folder)) or "/" not in path


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 64)


def engine_at(step: int) -> Single:
    """An engine whose weights, optimizer and random state follow from the step, in no other way than by its number."""
    engine = Single(device="cpu", autocast_dtype=None, timeout_seconds=1)
    torch.manual_seed(step)
    engine.prepare(Model(), lambda module: torch.optim.AdamW(module.parameters(), lr=0.1))
    for parameter in engine._parameters:
        parameter.grad = torch.randn_like(parameter)
    engine.update(lr=0.1, max_grad_norm=1.0)
    return engine


def checkpoints_of(engine: Single, root: Path) -> Checkpoints:
    return Checkpoints(
        root=root,
        engine=engine,
        save_total_limit=1,
        facts={"trajectory": {}},
        write_model=lambda folder: (folder / "adapter.bin").write_bytes(bytes(range(256)) * 16) and None,
    )


def save_step(root: Path, step: int) -> None:
    checkpoints_of(engine_at(step), root).save(Progress(step=step, step_in_epoch=step, trained_tokens=10 * step))


def newest_step(root: Path) -> int:
    """The step of the newest whole checkpoint, after a proof that it loads as the state that was saved then."""
    folder = checkpoint.newest(root)
    assert folder is not None
    loaded = engine_at(0)
    progress = checkpoints_of(loaded, root).load(folder)
    state_of_random = torch.get_rng_state()
    expected = engine_at(progress.step)
    assert torch.equal(state_of_random, torch.get_rng_state())
    for one, two in zip(loaded._parameters, expected._parameters, strict=True):
        assert torch.equal(one, two)
        assert loaded._optimizer is not None and expected._optimizer is not None
        for key, value in expected._optimizer.state[two].items():
            assert torch.equal(loaded._optimizer.state[one][key], value), key
    assert progress == Progress(step=progress.step, step_in_epoch=progress.step, trained_tokens=10 * progress.step)
    return progress.step


def test_a_kill_at_every_file_operation_of_a_save_leaves_a_whole_checkpoint(runs: Runs) -> None:
    """Exhaustive over what Python does to the folder: a save that replaces the one before, over leftovers of kills."""
    before = runs.folder / "before"
    for step in (1, 2):
        save_step(before, step)
    for leftover in (".checkpoint-2.removing", ".checkpoint-3.writing"):
        shutil.copytree(before / "checkpoint-2", before / leftover)

    def save_and_die(root: Path, number: int, log: Path | None = None) -> Child:
        def work() -> None:
            die_at(number, below=root, log=log)
            save_step(root, 3)

        child = runs.fork(work)
        child.wait()
        return child

    log = runs.folder / "operations"
    shutil.copytree(before, runs.folder / "whole")
    save_and_die(runs.folder / "whole", NEVER, log)
    operations = len(log.read_text().splitlines())
    assert operations > 30 and newest_step(runs.folder / "whole") == 3

    found = []
    for number in range(1, operations + 1):
        root = runs.folder / f"killed-{number}"
        shutil.copytree(before, root)
        assert save_and_die(root, number).wait() == -signal.SIGKILL
        found.append(newest_step(root))
        save_step(root, 3)
        save_step(root, 4)
        assert newest_step(root) == 4
        assert [path.name for path in root.iterdir()] == ["checkpoint-4"]
        shutil.rmtree(root)
    assert found == sorted(found) and set(found) == {2, 3}


@pytest.mark.parametrize("kills", [8, pytest.param(500, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_no_save_that_had_ended(runs: Runs, kills: int) -> None:
    """One run of saves, killed again and again some random time after a save, gone on with from the newest one."""
    root = runs.folder / "run"
    save_step(root, 1)
    draw = random.Random(kills)
    step, torn = 1, 0
    for _ in range(kills):
        reader, writer = os.pipe()

        def save_on(first: int = step + 1, writer: int = writer) -> None:
            for number in range(first, first + 10_000):
                os.write(writer, b".")
                save_step(root, number)

        child = runs.fork(save_on)
        os.close(writer)
        begun = len(os.read(reader, 1)) + sum(len(os.read(reader, 1)) for _ in range(draw.randrange(3)))
        time.sleep(draw.uniform(0, 0.02))
        child.signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        begun += len(os.read(reader, 100_000))
        os.close(reader)
        torn += any(path.name.startswith(".") for path in root.iterdir())
        found = newest_step(root)
        assert found - step in (begun - 1, begun)
        step = found
    assert torn >= max(1, kills // 8), "most kills fell between saves: the times say little"


SHORT = {"num_epochs": 1, "save_steps": 3, "save_total_limit": 1}


def operations_of_a_run(runs: Runs) -> list[str]:
    log = runs.folder / "operations"
    out = runs.folder / "counted"
    child = runs.start("counted", first=lambda: die_at(NEVER, below=out, log=log), **SHORT)
    assert child.wait() == 0, child.output()
    return log.read_text().splitlines()


def kill_and_go_on(runs: Runs, number: int, undisturbed: Path) -> None:
    name = f"killed-{number}"
    out = runs.folder / name
    child = runs.start(name, first=lambda: die_at(number, below=out), **SHORT)
    assert child.wait() == -signal.SIGKILL, child.output()
    runs.train(name, **SHORT)
    assert runs.metrics(out) == runs.metrics(undisturbed)
    assert runs.trained(out) == runs.trained(undisturbed)
    hidden = {path.name for path in out.glob(".*")}
    assert hidden == {".lock"}
    shutil.rmtree(out)


@pytest.mark.slow
def test_a_run_killed_in_front_of_a_rename_goes_on_to_the_same_end(runs: Runs) -> None:
    """Files and checkpoints take their names by renames: the moments at which the folder changes its meaning."""
    undisturbed = runs.train("undisturbed", **SHORT)
    renames = [number for number, event in enumerate(operations_of_a_run(runs), start=1) if event == "os.rename"]
    assert len(renames) > 12
    for number in renames:
        kill_and_go_on(runs, number, undisturbed)


@pytest.mark.slow
def test_a_run_killed_at_any_file_operation_goes_on_to_the_same_end(runs: Runs) -> None:
    undisturbed = runs.train("undisturbed", **SHORT)
    operations = operations_of_a_run(runs)
    print(f"{len(operations)} kills")
    for number in range(1, len(operations) + 1):
        kill_and_go_on(runs, number, undisturbed)


@pytest.mark.parametrize("step", [3, 7])
def test_a_disk_that_is_full_costs_nothing_that_was_saved(runs: Runs, step: int) -> None:
    """At a checkpoint and at the final save. A limit on the size of files fails their writes as a full disk does."""
    undisturbed = runs.train("undisturbed", **SHORT)
    out = runs.folder / "run"

    def fill_disk() -> None:
        from axo.train.hooks.saving import SavingHook

        save = SavingHook.after_step

        def after_step(self: SavingHook, end: Any) -> None:
            if end.metrics.step == step:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            save(self, end)

        SavingHook.after_step = after_step

    run = runs.start("run", first=fill_disk, **{**SHORT, "save_steps": 1 if step == 3 else 6})
    assert run.wait() == 5, run.output()
    assert "Traceback" not in run.output()
    assert "could not be written" in run.output() and "File too large" in run.output()
    whole = checkpoint.newest(out)
    assert whole is not None and whole.name == f"checkpoint-{step - 1}"
    runs.train("run", **SHORT)
    assert runs.metrics(out) == runs.metrics(undisturbed)
    assert runs.trained(out) == runs.trained(undisturbed)
