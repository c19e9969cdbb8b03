"""C4: a run goes on with another number of workers or another engine, with the same rows a step and the same losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

pytestmark = [pytest.mark.distributed]
SHORT: dict[str, Any] = {"num_epochs": 1, "save_steps": 2, "learning_rate": 1e-3}
"""7 steps of 4 rows."""
FSDP: dict[str, Any] = {
    "fsdp_version": 2,
    "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT", "final_state_dict_type": "FULL_STATE_DICT"},
}


def stopped_after(runs: Runs, name: str, step: int, **keys: Any) -> Path:
    """A run that ended after a step as if it had been killed: its later checkpoints and lines are gone."""
    run = runs.start(name, **keys)
    assert run.wait() == 0, run.output()
    out = runs.folder / name
    for path in out.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > step:
            import shutil

            shutil.rmtree(path)
    for path in (*out.glob("*.safetensors"), *out.glob("config.json")):
        path.unlink()
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "status": "running"}))
    return out


def losses(runs: Runs, out: Path) -> list[float]:
    return [line["loss"] for line in runs.metrics(out)]


MOVES = {
    "ddp 2 to one": ({"world_size": 2, "gradient_accumulation_steps": 2}, {"world_size": 1}),
    "one to ddp 2": ({}, {"world_size": 2}),
    "ddp 2 to ddp 4": ({"world_size": 2, "gradient_accumulation_steps": 2}, {"world_size": 4}),
    "fsdp 2 to fsdp 4": ({"world_size": 2, "gradient_accumulation_steps": 2, **FSDP}, {"world_size": 4}),
    "ddp 2 to fsdp 2": ({"world_size": 2, "gradient_accumulation_steps": 2}, FSDP),
    "fsdp 2 to one": ({"world_size": 2, "gradient_accumulation_steps": 2, **FSDP}, {"world_size": 1}),
}
FAST = ("ddp 2 to one",)


@pytest.mark.parametrize("move", [pytest.param(m, marks=() if m in FAST else pytest.mark.slow) for m in MOVES])
def test_a_run_goes_on_with_other_workers_with_the_losses_of_one(runs: Runs, move: str) -> None:
    before, changed = MOVES[move]
    expected = losses(runs, runs.train("one", **SHORT))
    stopped_after(runs, "run", 4, **SHORT, **before)
    again = runs.start("run", **{**SHORT, **before, **changed})
    assert again.wait() == 0, again.output()
    assert "going on from" in again.output() and "checkpoint-4" in again.output()
    np.testing.assert_allclose(losses(runs, runs.folder / "run"), expected, rtol=1e-5)
    weights = [_weights(runs.folder / name) for name in ("one", "run")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-5, err_msg=name)


def _weights(out: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    (path,) = out.glob("*.safetensors")
    return load_file(path)


def test_workers_that_do_not_divide_the_rows_of_a_step_are_refused(runs: Runs) -> None:
    runs.train("run", **SHORT, max_steps=2)
    stopped_run = runs.folder / "run" / "run.json"
    record = json.loads(stopped_run.read_text())
    stopped_run.write_text(json.dumps({**record, "status": "running"}))
    run = runs.start("run", **SHORT, max_steps=2, world_size=3)
    assert run.wait() == 2
    assert "1 x 3 workers are 3 rows at once, and the run in" in run.output()
    assert "has 4 rows a step, which they do not divide" in run.output()
    assert "Traceback" not in run.output()
