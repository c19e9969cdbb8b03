"""`axo train` on DeepSpeed, two workers: the run of one worker, the same model file, stopped and gone on with."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import Child, Runs

pytest.importorskip("deepspeed")
pytestmark = [pytest.mark.slow, pytest.mark.distributed]

STAGES = {"zero2": "deepspeed_configs/zero2.json", "zero3": "deepspeed_configs/zero3.json"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stopped_run_of_two_workers_ends_as_the_run_of_one(runs: Runs, name: str, wait_for: Any) -> None:
    """4 rows a step in all three; the optimizer's state of zero2.json is updated in CPU memory."""
    one = runs.train("one")
    two: dict[str, Any] = {"world_size": 2, "gradient_accumulation_steps": 2, "deepspeed": STAGES[name], "bf16": False}
    assert _started(runs, name, two).wait() == 0
    stopped = _started(runs, f"{name}-stopped", two)
    wait_for(lambda: runs.steps(runs.folder / f"{name}-stopped") >= 3, what="three steps")
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == 75, stopped.output()
    assert _started(runs, f"{name}-stopped", two, log="again").wait() == 0
    undisturbed = runs.folder / name
    _compare(runs, one, undisturbed)
    assert runs.metrics(runs.folder / f"{name}-stopped") == runs.metrics(undisturbed)
    assert runs.trained(runs.folder / f"{name}-stopped") == runs.trained(undisturbed)


def test_a_checkpoint_of_two_workers_is_refused_by_one_with_the_number_that_saved_it(runs: Runs) -> None:
    keys: dict[str, Any] = {"deepspeed": STAGES["zero3"], "bf16": False, "max_steps": 2, "num_epochs": None}
    two = {**keys, "world_size": 2, "gradient_accumulation_steps": 2}
    assert _started(runs, "two", two).wait() == 0
    other = {**keys, "resume_from_checkpoint": str(runs.folder / "two" / "checkpoint-2"), "max_steps": 4}
    child = _started(runs, "other", other)
    assert child.wait() == 5, child.output()
    assert "2 workers" in child.output()


def _started(runs: Runs, name: str, keys: dict[str, Any], *, log: str | None = None) -> Child:
    return runs.start(name, name_of_log=log or name, **keys)


def _compare(runs: Runs, one: Path, two: Path) -> None:
    """Losses and norms of every step; the saved model file by file and key by key, as plain transformers loads it."""
    from transformers import AutoModelForCausalLM

    for key in ("loss", "grad_norm", "lr"):
        expected = [line[key] for line in runs.metrics(one)]
        np.testing.assert_allclose([line[key] for line in runs.metrics(two)], expected, rtol=1e-4, err_msg=key)
    assert {path.name for path in one.glob("*.safetensors")} == {path.name for path in two.glob("*.safetensors")}
    models = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (one, two)]
    assert models[0].keys() == models[1].keys()
    for name, weight in models[0].items():
        assert models[1][name].dtype == weight.dtype
        np.testing.assert_allclose(models[1][name].numpy(), weight.numpy(), atol=2e-3, err_msg=name)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (one, two)]
    assert sizes[0] == sizes[1]
