"""The folder of a run: locks, resumes and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from axo.errors import CheckpointError
from axo.train import output_dir
from axo.train.manifest import write_manifest
from axo.train.output_dir import Start, decide_start

TRAJECTORY = {"learning_rate": 1e-4, "prepared_data": "abc"}


def decide(folder: Path, **changes: object) -> Start:
    keys = {"trajectory": TRAJECTORY, "auto_resume": None, "resume_from": None, "fresh": False, **changes}
    return decide_start(folder, **keys)  # type: ignore[arg-type]


def add_checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text("w")
    write_manifest(path, {"trajectory": TRAJECTORY, "step": step})
    return path


def here_made(folder: Path) -> Path:
    folder.mkdir()
    return folder


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
    add_checkpoint(tmp_path, 5)
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.0001 there, 0\.0002 now"):
        decide(tmp_path, trajectory={**TRAJECTORY, "learning_rate": 2e-4})


def test_a_finished_run_has_nothing_left_to_do_unless_fresh(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="finished")
    add_checkpoint(tmp_path, 5)
    assert decide(tmp_path) == Start("finished")
    assert decide(tmp_path, fresh=True) == Start("new")
    assert (tmp_path / "checkpoint-5").exists(), "deciding removes nothing"
    output_dir.clear(tmp_path)
    assert not list(tmp_path.glob("*"))


def test_a_run_that_failed_before_its_first_step_blocks_nothing(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="running")
    assert decide(tmp_path, trajectory={**TRAJECTORY, "learning_rate": 2e-4}) == Start("new")


def test_starting_over_refuses_to_remove_what_the_run_reads(tmp_path: Path) -> None:
    (tmp_path / "out" / "merged").mkdir(parents=True)
    output_dir.check_inputs_outside(tmp_path / "out", {"base_model": str(tmp_path), "datasets.0.path": "hub/name"})
    with pytest.raises(CheckpointError, match=r"merged \(base_model\)"):
        output_dir.check_inputs_outside(tmp_path / "out", {"base_model": str(tmp_path / "out" / "merged")})


def test_prepared_data_in_the_folder_is_no_stranger(tmp_path: Path) -> None:
    store = tmp_path / "prepared" / "abc"
    store.mkdir(parents=True)
    assert decide(tmp_path, own=[store]) == Start("new")
    with pytest.raises(CheckpointError, match="prepared"):
        decide(tmp_path)


def test_a_run_from_a_named_checkpoint_goes_on_from_its_own_newest_one(tmp_path: Path) -> None:
    here = tmp_path / "here"
    named = add_checkpoint(tmp_path / "elsewhere", 5)
    output_dir.record(here_made(here), trajectory=TRAJECTORY, status="running", resumed_from=str(named))
    newest = add_checkpoint(here, 8)
    assert decide(here, resume_from=str(named)) == Start("resume", newest)


def test_a_named_checkpoint_older_than_the_folder_s_newest_is_refused(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="running")
    older, newest = add_checkpoint(tmp_path, 5), add_checkpoint(tmp_path, 8)
    assert decide(tmp_path, resume_from=str(newest)) == Start("resume", newest)
    with pytest.raises(CheckpointError, match="checkpoint-8 is newer"):
        decide(tmp_path, resume_from=str(older))


def test_a_damaged_record_of_a_run_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / output_dir.RUN).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        decide(tmp_path)


def test_auto_resume_false_refuses_an_unfinished_run(tmp_path: Path) -> None:
    output_dir.record(tmp_path, trajectory=TRAJECTORY, status="running")
    add_checkpoint(tmp_path, 5)
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
    trajectory = output_dir.trajectory_of(keys, {"prepared_data": "abc", "rows_a_step": 8})
    assert trajectory == {"learning_rate": 1e-4, "prepared_data": "abc", "rows_a_step": 8}


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"resume_from_checkpoint names .*nowhere, and there is no such folder"):
        decide(tmp_path / "here", resume_from=str(tmp_path / "nowhere"))


def on(engine: str, workers: int, **keys: object) -> dict[str, object]:
    return {**TRAJECTORY, "rows_a_step": 8, "engine": engine, "workers": workers, **keys}


@pytest.mark.parametrize(("before", "after"), [
    (on("ddp", 2), on("ddp", 4)),
    (on("single", 1), on("fsdp", 4)),
    (on("fsdp", 4), on("ddp", 2)),
    (on("fsdp", 4, gradient_accumulation_steps=2), on("fsdp", 2, gradient_accumulation_steps=4)),
    ({**TRAJECTORY, "rows_a_step": 8, "workers": 2, "world_size": 2}, on("ddp", 4)),  # written before engines were told
])  # fmt: skip
def test_other_workers_and_engines_go_on(tmp_path: Path, before: dict[str, object], after: dict[str, object]) -> None:
    output_dir.record(tmp_path, trajectory=before, status="running")
    newest = add_checkpoint(tmp_path, 5)
    assert decide(tmp_path, trajectory=after) == Start("resume", newest)


@pytest.mark.parametrize(("before", "after", "says"), [
    (on("ddp", 2), on("ddp", 2, gradient_accumulation_steps=4), "gradient_accumulation_steps"),
    (on("ddp", 2), on("ddp", 4, rows_a_step=16), "rows_a_step: 8 there, 16 now"),
    (on("fsdp", 2), on("fsdp", 4, fsdp_precision={"reduce_dtype": "bfloat16"}), "fsdp_precision"),
    (on("deepspeed", 4), on("deepspeed", 2), "saved by 4 workers under DeepSpeed, this run has 2"),
    (on("deepspeed", 2), on("fsdp", 2), "trained by the engine deepspeed, this run has fsdp"),
    (on("single", 1), on("deepspeed", 2), "trained by the engine single, this run has deepspeed"),
])  # fmt: skip
def test_what_cannot_go_on_elsewhere_is_refused_by_name(
    tmp_path: Path, before: dict[str, object], after: dict[str, object], says: str
) -> None:
    output_dir.record(tmp_path, trajectory=before, status="running")
    add_checkpoint(tmp_path, 5)
    with pytest.raises(CheckpointError, match=says):
        decide(tmp_path, trajectory=after)
