"""C3 and the manifest: checkpoints are whole or they are not used."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from axo.engines.single import Single
from axo.errors import CheckpointError
from axo.train import checkpoint
from axo.train.checkpoint import Checkpoints
from axo.train.events import Progress
from axo.train.manifest import MANIFEST


class Objective(torch.nn.Module):
    """Two layers of which one is frozen; enough for an engine to save."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = torch.nn.Linear(3, 3)
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)


def make_engine() -> Single:
    engine = Single(device="cpu", autocast_dtype=None, timeout_seconds=1)
    torch.manual_seed(0)
    engine.prepare(Objective(), lambda module: torch.optim.AdamW(module.trained.parameters(), lr=0.1))
    return engine


def take_step(engine: Single) -> None:
    for parameter in engine._parameters:
        parameter.grad = torch.randn_like(parameter)
    engine.update(lr=0.1, max_grad_norm=1.0)


def make_checkpoints(root: Path, engine: Single, *, keep: int = 4) -> Checkpoints:
    return Checkpoints(
        root=root,
        engine=engine,
        save_total_limit=keep,
        facts={"trajectory": {"lora_r": 8}},
        write_model=lambda folder: (folder / "adapter.txt").write_text("adapter") and None,
    )


def test_weights_optimizer_and_random_states_come_back_bit_by_bit(tmp_path: Path) -> None:
    engine = make_engine()
    take_step(engine)
    folder = make_checkpoints(tmp_path, engine).save(Progress(step=1, step_in_epoch=1, trained_tokens=7))
    draws = [torch.rand(3), np.random.rand(3), random.random()]
    take_step(engine)
    expected = {name: value.clone() for name, value in engine._objective.state_dict().items()}

    other = make_engine()
    progress = make_checkpoints(tmp_path, other).load(folder)
    assert progress == Progress(step=1, step_in_epoch=1, trained_tokens=7)
    again = [torch.rand(3), np.random.rand(3), random.random()]
    assert all(np.array_equal(one, two) for one, two in zip(draws, again, strict=True))
    take_step(other)
    for name, value in other._objective.state_dict().items():
        assert torch.equal(value, expected[name]), name


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def damage_by_flipping(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_flipping, Path.unlink])
@pytest.mark.parametrize(
    "name", ["engine/weights.safetensors", "engine/optimizer.safetensors", "rng-00000.safetensors", "train_state.json"]
)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    tmp_path: Path, damage: object, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    checkpoints = make_checkpoints(tmp_path, engine)
    for step in (1, 2):
        take_step(engine)
        checkpoints.save(Progress(step=step))
    damage(tmp_path / "checkpoint-2" / name)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=name):
        checkpoint.verify(tmp_path / "checkpoint-2")
    with caplog.at_level("WARNING", logger="axo"):
        assert checkpoint.newest(tmp_path) == tmp_path / "checkpoint-1"


def test_a_missing_manifest_makes_a_checkpoint_unusable(tmp_path: Path) -> None:
    engine = make_engine()
    folder = make_checkpoints(tmp_path, engine).save(Progress(step=1))
    (folder / MANIFEST).unlink()
    assert checkpoint.newest(tmp_path) is None


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    engine = make_engine()
    checkpoints = make_checkpoints(tmp_path, engine, keep=2)
    for step in (1, 2, 10, 9):
        checkpoints.save(Progress(step=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_damaged_newer_checkpoints_never_cost_the_one_just_saved(tmp_path: Path) -> None:
    engine = make_engine()
    checkpoints = make_checkpoints(tmp_path, engine, keep=1)
    checkpoints.save(Progress(step=4))
    damage_by_cutting(tmp_path / "checkpoint-4" / "train_state.json")
    checkpoints.save(Progress(step=2))
    assert checkpoint.newest(tmp_path) == tmp_path / "checkpoint-2"


def test_leftovers_of_a_removal_that_was_cut_off_stand_in_no_way(tmp_path: Path) -> None:
    engine = make_engine()
    checkpoints = make_checkpoints(tmp_path, engine, keep=1)
    for step in (1, 2):
        shutil.copytree(checkpoints.save(Progress(step=step)), tmp_path / f".checkpoint-{step}.removing")
    checkpoints.save(Progress(step=3))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_every_file_and_folder_is_forced_to_the_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a checkpoint could stand there after a power cut with a manifest and without its files."""
    synced: set[int] = set()
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino) or fsync(descriptor))

    def checked(self: Path, target: Path) -> Path:
        if target.name == "checkpoint-1":
            assert {path.stat().st_ino for path in (self, *self.rglob("*"))} <= synced
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", checked)
    folder = make_checkpoints(tmp_path, make_engine()).save(Progress(step=1))
    assert folder.stat().st_ino in synced and tmp_path.stat().st_ino in synced


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    checkpoints = make_checkpoints(tmp_path, engine)
    checkpoints.save(Progress(step=1))

    def disk_full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "save_state", disk_full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoints.save(Progress(step=2))
    assert checkpoint.newest(tmp_path) == tmp_path / "checkpoint-1"


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    engine = make_engine()
    folder = make_checkpoints(tmp_path, engine).save(Progress(step=1))
    other = Single(device="cpu", autocast_dtype=None, timeout_seconds=1)
    other.prepare(torch.nn.Linear(2, 2), lambda module: torch.optim.AdamW(module.parameters()))
    with pytest.raises(CheckpointError, match="other trained weights"):
        make_checkpoints(tmp_path, other).load(folder)


def test_a_leftover_draft_is_cleared_by_the_next_save(tmp_path: Path) -> None:
    engine = make_engine()
    checkpoints = make_checkpoints(tmp_path, engine)
    folder = checkpoints.save(Progress(step=1))
    shutil.copytree(folder, tmp_path / ".checkpoint-5.writing")
    checkpoints.save(Progress(step=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]
