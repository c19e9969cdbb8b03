"""`axo train --sweep`: each run is the run that its settings give alone; stops, faults and changed files."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from axo.recipe.find import find_recipe
from axo.recipe.sweep import read_sweep
from tests.integration.test_signals import wait_in_step

if TYPE_CHECKING:
    from tests.integration.conftest import Child, Runs

HELD_OUT = {"num_epochs": 1, "save_steps": 3, "val_set_size": 4, "eval_strategy": None}
TWO_BY_TWO = "learning_rate: [1e-2, 1e-3]\nweight_decay:\n  - 0.0\n  - 0.1\n"
STOPPED = 75


class Sweeps:
    """`axo train RECIPE --sweep FILE` in children."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def file(self, text: str, name: str = "grid.yaml") -> Path:
        path = self.runs.folder / name
        path.write_text(text)
        return path

    def start(
        self, recipe: Path, file: Path, *words: str, first: Callable[[], object] | None = None, log: str = "sweep-log"
    ) -> Child:
        from tests.integration.conftest import axo

        def work() -> None:
            if first is not None:
                first()
            axo("train", str(recipe), "--sweep", str(file), "--json", *words)

        return self.runs.fork(work, name=log)

    def run(self, recipe: Path, file: Path, *words: str, code: int = 0, **how: Any) -> str:
        """What it prints."""
        child = self.start(recipe, file, *words, **how)
        assert child.wait() == code, child.output()
        assert "Traceback" not in child.output()
        return child.output()


@pytest.fixture
def sweeps(runs: Runs) -> Sweeps:
    return Sweeps(runs)


def settings_of(file: Path) -> dict[str, dict[str, Any]]:
    return {run.name: dict(run.settings) for run in read_sweep(find_recipe(file))}


def answer(output: str) -> dict[str, Any]:
    return json.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))


@pytest.mark.slow
def test_a_sweep_is_stopped_in_a_run_and_the_same_command_ends_with_the_runs_that_each_would_be_alone(
    sweeps: Sweeps, wait_for: Callable[..., None]
) -> None:
    runs, file = sweeps.runs, sweeps.file(TWO_BY_TWO)
    names = list(settings_of(file))
    assert names == ["sweep0001", "sweep0002", "sweep0003", "sweep0004"]
    recipe, out = runs.recipe("all", **HELD_OUT), runs.folder / "all"
    sent, second = runs.folder / "sent", out / "sweep0002"

    def wait_in_the_second_run() -> None:
        wait_in_step(4, until=lambda: sent.exists() or not second.exists())

    child = sweeps.start(recipe, file, first=wait_in_the_second_run)
    wait_for(lambda: runs.steps(second) == 4, what="step 4 of the second run")
    child.signal(signal.SIGTERM)
    sent.touch()
    assert child.wait() == STOPPED, child.output()
    assert "error: sweep0002: stopped after step 5" in child.output()
    assert not (out / "sweep0003").exists()
    before = (out / "sweep0001" / "metrics.jsonl").stat().st_mtime_ns

    output = sweeps.run(recipe, file)
    assert "sweep0001: finished already" in output
    assert f"going on from {second / 'checkpoint-5'}" in output
    assert (out / "sweep0001" / "metrics.jsonl").stat().st_mtime_ns == before
    for name, settings in settings_of(file).items():
        alone = runs.train(f"alone-{name}", **HELD_OUT, **settings)
        assert runs.metrics(out / name) == runs.metrics(alone)
        assert runs.trained(out / name) == runs.trained(alone)

    found = answer(output)
    assert [run["name"] for run in found["runs"]] == names and found["output_dir"] == str(out)
    for run in found["runs"]:
        last = runs.metrics(out / run["name"])[-1]
        assert (run["status"], run["step"], run["error"]) == ("finished", last["step"], None)
        assert (run["loss"], run["eval_loss"]) == (last["loss"], last["eval_loss"])
        assert run["settings"] == settings_of(file)[run["name"]] and run["output_dir"] == str(out / run["name"])
    assert json.loads((out / "sweep.json").read_text())["runs"] == settings_of(file)
    table = output.split("sweep, best first:\n")[1].splitlines()[:4]
    by_loss = sorted(found["runs"], key=lambda run: run["eval_loss"])
    assert [line.split(":")[0].strip() for line in table] == [run["name"] for run in by_loss]
    assert f"next: axo inference {by_loss[0]['output_dir']}/recipe.yaml" in output

    again = sweeps.run(recipe, file)
    assert again.count("finished already") == 4 and answer(again) == found


@pytest.mark.slow
def test_a_changed_sweep_or_recipe_is_refused_with_the_differences_and_fresh_starts_over(sweeps: Sweeps) -> None:
    runs, keys = sweeps.runs, {**HELD_OUT, "max_steps": 2, "num_epochs": None, "save_steps": None, "warmup_steps": None}
    recipe, out = runs.recipe("all", **keys), runs.folder / "all"
    sweeps.run(recipe, sweeps.file("seed: [1, 2]"))
    assert settings_of(runs.folder / "grid.yaml") == {"sweep0001": {"seed": 2}, "sweep0002": {"seed": 1}}

    longer = sweeps.file("seed: [1, 3]")
    output = sweeps.run(recipe, longer, code=5)
    assert f"error: {out} holds runs of another sweep; their settings differ:" in output
    told = output.split("differ:\n")[1]
    assert "  sweep0001: seed 2 there, seed 3 now" in told and "sweep0002" not in told
    assert "sweep0002: seed 1 there, no run now" in sweeps.run(recipe, sweeps.file("seed: [2]"), code=5)

    sweeps.file("seed: [1, 2]")
    other = runs.recipe("all", **keys, weight_decay=0.5)
    output = sweeps.run(other, longer, code=5)
    assert "  weight_decay: " in output and "0.5 now" in output

    trained = runs.trained(out / "sweep0001")
    output = sweeps.run(other, sweeps.file("seed: [2]"), "--fresh")
    assert [run["name"] for run in answer(output)["runs"]] == ["sweep0001"]
    assert runs.trained(out / "sweep0001") != trained and not (out / "sweep0002").exists()


def test_a_run_that_fails_leaves_the_others_and_gives_the_exit_code(sweeps: Sweeps) -> None:
    runs, keys = sweeps.runs, {"max_steps": 3, "num_epochs": None, "save_steps": None, "warmup_steps": None}
    file = sweeps.file("learning_rate: [1e-3, 1e+38]\nmax_grad_norm: [1.0, 2.0]")
    bad = [name for name, settings in settings_of(file).items() if settings["learning_rate"] != "1e-3"]
    output = sweeps.run(runs.recipe("all", **keys), file, code=6)
    found = {run["name"]: run for run in answer(output)["runs"]}
    assert [name for name, run in found.items() if run["status"] == "failed"] == bad and len(found) == 4
    assert all("the loss of step" in found[name]["error"] for name in bad)
    assert all(run["status"] == "finished" and run["step"] == 3 for name, run in found.items() if name not in bad)
    table = output.split("sweep, best first:\n")[1].splitlines()[:4]
    assert ["failed: " in line for line in table] == [False, False, True, True]


def test_all_combinations_are_checked_before_anything_is_written(sweeps: Sweeps) -> None:
    runs = sweeps.runs
    file = sweeps.file("weight_decay: [0.0, 0.1]\nlearning_rate:\n  - 1e-3\n  - minus\nsed: [1]\n")
    output = sweeps.run(runs.recipe("all"), file, code=2)
    assert f"{file}:4: learning_rate: " in output and f"{file}:5: sed: unknown key" in output
    wrong = [name for name, settings in settings_of(file).items() if settings["learning_rate"] == "minus"]
    assert f"(in {', '.join(wrong)})" in output and not (runs.folder / "all").exists()
    output = sweeps.run(runs.recipe("all"), sweeps.file("seed: [1, 2]"), "--seed", "3", code=2)
    assert "command line: seed: " in output and "sweeps over it" in output
    output = sweeps.run(runs.recipe("all"), runs.folder / "grid.yml", code=2)
    assert "there is no such file" in output and "did you mean 'grid.yaml'" in output


def test_a_sweep_does_not_mix_with_a_single_run_and_two_sweeps_do_not_meet(
    sweeps: Sweeps, wait_for: Callable[..., None]
) -> None:
    runs, keys = sweeps.runs, {"max_steps": 2, "num_epochs": None, "save_steps": None, "warmup_steps": None}
    single, file = runs.train("single", **keys), sweeps.file("seed: [1, 2]")
    output = sweeps.run(runs.recipe("single", **keys), file, code=5)
    assert f"{single} holds the run of a single recipe" in output

    done, out = runs.folder / "done", runs.folder / "all"
    recipe = runs.recipe("all", **keys)
    child = sweeps.start(recipe, file, first=lambda: wait_in_step(1, until=done.exists))
    wait_for(lambda: runs.steps(out / "sweep0001") == 1, what="step 1")
    output = sweeps.run(recipe, file, code=5, log="second")
    assert f"error: {out} is in use by another axo run" in output
    done.touch()
    assert child.wait() == 0, child.output()


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_while_data_is_prepared_stops_the_sweep_too(sweeps: Sweeps, swallowed: bool) -> None:
    runs = sweeps.runs

    def stop_when_preparing() -> None:
        import contextlib
        import os

        from axo.workflows import train

        prepare = train.prepare_run

        def prepare_run(recipe: Any, **keywords: Any) -> Any:
            with contextlib.suppress(*([KeyboardInterrupt] if swallowed else [])):
                os.kill(os.getpid(), signal.SIGTERM)
            return prepare(recipe, **keywords)

        train.prepare_run = prepare_run

    output = sweeps.run(runs.recipe("all"), sweeps.file("seed: [1, 2]"), first=stop_when_preparing, code=STOPPED)
    assert "error: the sweep was stopped while no step was in work\n  the same command goes on with it" in output
    assert not (runs.folder / "all" / "sweep0001" / "run.json").exists()


def test_every_run_of_a_sweep_is_smoke_run(sweeps: Sweeps) -> None:
    runs = sweeps.runs
    output = sweeps.run(runs.recipe("all"), sweeps.file("seed: [1, 2]"), "--smoke")
    assert output.count("smoke run passed") == 2
    assert [(run["status"], run["step"]) for run in answer(output)["runs"]] == [("finished", 4)] * 2
    assert not (runs.folder / "all").exists()
