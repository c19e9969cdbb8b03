"""Runs that end before their last step, whole and interrupted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from axo.errors import TrainingError
from axo.train.events import StepEnd
from axo.train.hooks.saving import SavingHook

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
WORSE: dict[str, Any] = {
    **LORA, "learning_rate": 0.3, "warmup_steps": 4, "num_epochs": 4, "val_set_size": 6, "eval_strategy": "steps",
    "eval_steps": 1, "save_steps": 1, "save_total_limit": 2, "early_stopping_patience": 4,
}  # fmt: skip
"""The rate grows until the model gets worse and worse."""


def best_step(metrics: list[dict[str, Any]]) -> int:
    return min(metrics, key=lambda line: line["eval_loss"])["step"]


def test_a_run_that_stops_early_ends_with_its_best_weights_and_at_the_same_step_after_a_kill(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = runs.train("whole", **WORSE)
    metrics = runs.metrics(whole)
    best = best_step(metrics)
    assert 1 < best == len(metrics) - 4 and len(metrics) < 20
    kept = sorted(int(path.name.rpartition("-")[2]) for path in whole.glob("checkpoint-*"))
    assert kept == [best, len(metrics)]
    assert (whole / "adapter_model.safetensors").read_bytes() == (
        whole / f"checkpoint-{best}" / "adapter_model.safetensors"
    ).read_bytes()

    saving = SavingHook.after_step

    def die(self: SavingHook, end: StepEnd) -> None:
        saving(self, end)
        if end.metrics.step == best + 2:
            raise ZeroDivisionError

    monkeypatch.setattr(SavingHook, "after_step", die)
    with pytest.raises(ZeroDivisionError):
        runs.train("killed", **WORSE)
    monkeypatch.undo()
    killed = runs.train("killed", **WORSE)
    assert runs.metrics(killed) == metrics
    assert runs.trained(killed) == runs.trained(whole)
    assert json.loads((killed / "run.json").read_text())["status"] == "finished"


def test_without_load_best_model_at_end_the_last_weights_are_the_result(runs: Runs) -> None:
    last = runs.train("last", **WORSE, load_best_model_at_end=False)
    step = runs.steps(last)
    assert runs.trained(last) == (last / f"checkpoint-{step}" / "adapter_model.safetensors").read_bytes()


def test_a_watchdog_saves_the_state_from_which_a_run_with_more_patience_goes_on(runs: Runs) -> None:
    keys: dict[str, Any] = {"num_epochs": 1, "save_steps": 2, "save_total_limit": 1}
    whole = runs.train("whole", **keys)
    with pytest.raises(TrainingError, match=r"step 3: the loss .* above loss_watchdog_threshold 0.5 in 3 steps"):
        runs.train("watched", **keys, loss_watchdog_threshold=0.5)
    folder = runs.folder / "watched"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    watched = runs.train("watched", **keys, loss_watchdog_threshold=50)
    assert runs.metrics(watched) == runs.metrics(whole)
    assert runs.trained(watched) == runs.trained(whole)
