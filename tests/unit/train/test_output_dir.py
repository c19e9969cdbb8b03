"""The folder of a run: locks, resumes and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from axo.errors import CheckpointError
from axo.train import output_dir
from axo.train.checkpoint import write_manifest
from axo.train.output_dir import Start, decide_start

TRAJECTORY = {"learning_rate": 1e-4, "prepared_data": "abc"}


def decide(folder: Path, **changes: object) -> Start:
    keys = {"trajectory": TRAJECTORY, "auto_resume": None, "resume_from": None, "fresh": False, **changes}
    return decide_start(folder, **keys)  # type: ignore[arg-type]


def add_checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text("w")
    write_manifest(path, {"trajectory": TRAJECTORY})
    return path


def test_an_empty_folder_starts_a_new_run(tmp_path: Path) -> None:
    assert decide(tmp_path) == Start("new")


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match="cannot be written to"), output_dir.locked(folder):
            pytest.fail("was locked")


def test_a_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        decide(tmp_path)


def test_an_unfinished_run_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="running")
    assert decide(tmp_path) == Start("new")
    add_checkpoint(tmp_path, 5)
    newest = add_checkpoint(tmp_path, 10)
    assert decide(tmp_path) == Start("resume", newest)


def test_another_recipe_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="running")
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.0001 there, 0\.0002 now"):
        decide(tmp_path, trajectory={**TRAJECTORY, "learning_rate": 2e-4})


def test_a_finished_run_has_nothing_left_to_do_unless_fresh(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="finished")
    add_checkpoint(tmp_path, 5)
    assert decide(tmp_path) == Start("finished")
    assert decide(tmp_path, fresh=True) == Start("new")
    assert not list(tmp_path.glob("checkpoint-*"))


def test_auto_resume_false_refuses_an_unfinished_run(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="running")
    with pytest.raises(CheckpointError, match="unfinished"):
        decide(tmp_path, auto_resume=False)


def test_a_named_checkpoint_must_be_whole_and_of_this_run(tmp_path: Path) -> None:
    path = add_checkpoint(tmp_path / "elsewhere", 5)
    assert decide(tmp_path / "here", resume_from=str(path)) == Start("resume", path)
    with pytest.raises(CheckpointError, match="prepared_data"):
        decide(tmp_path / "here", resume_from=str(path), trajectory={**TRAJECTORY, "prepared_data": "xyz"})
    (path / "weights").write_text("W")
    with pytest.raises(CheckpointError, match="weights"):
        decide(tmp_path / "here", resume_from=str(path))


def test_a_second_process_finds_the_folder_locked(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from axo.train.output_dir import locked\n"
        f"with locked(Path({str(tmp_path)!r})): pass"
    )
    with output_dir.locked(tmp_path):
        held = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert held.returncode != 0 and "in use by another axo run" in held.stderr
    free = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert free.returncode == 0, free.stderr


def test_the_trajectory_leaves_out_what_changes_no_weight() -> None:
    keys = {"learning_rate": 1e-4, "output_dir": "x", "save_steps": 3, "wandb_name": "y", "datasets": [{"path": "z"}]}
    trajectory = output_dir.trajectory_of(keys, data_key="abc", packs_per_step=8)
    assert trajectory == {"learning_rate": 1e-4, "prepared_data": "abc", "rows_a_step": 8}
