"""Whole runs in float16 with loss scaling, and with other optimizers and schedules, stopped and gone on with."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from axo.errors import Stopped
from axo.train.hooks.metrics_file import MetricsFile

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
SHORT = {"max_steps": 6, "num_epochs": None}
LINE = MetricsFile.after_step


@pytest.mark.parametrize("keys", [{}, LORA], ids=["full", "lora"])
def test_a_run_in_float16_has_the_losses_of_float32_and_says_its_loss_scale(runs: Any, keys: dict[str, Any]) -> None:
    """float16 keeps 11 significant bits: 2**-11 a product, 2e-3 over the layers and steps of this model."""
    lines = runs.metrics(runs.train("half", fp16=True, **SHORT, **keys))
    plain = runs.metrics(runs.train("plain", **SHORT, **keys))
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in plain], rel=2e-3)
    assert lines[-1]["loss"] != plain[-1]["loss"]
    assert {line["loss_scale"] for line in lines} == {65536.0}
    assert lines[-1]["skipped_steps"] == 0


@pytest.mark.parametrize(
    "keys",
    [
        {"fp16": True, "lr_scheduler": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 2}},
        {"optimizer": "muon", "lr_scheduler": "rex"},
        {"optimizer": "adamw_bnb_8bit", "lr_scheduler": "one_cycle"},
        {"optimizer": "lion_pytorch", "learning_rate": 1e-3, **LORA, "loraplus_lr_ratio": 4},
    ],
    ids=["fp16", "muon", "8 bits", "lion and LoRA+"],
)
def test_a_stopped_run_goes_on_to_the_bit(runs: Any, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if "bnb" in keys.get("optimizer", ""):
        pytest.importorskip("bitsandbytes")
    whole = runs.train("whole", **SHORT, **keys)
    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "after_step", _stop_in_the_third_step)
        with pytest.raises(Stopped):
            runs.train("stopped", **SHORT, **keys)
    stopped = runs.train("stopped", **SHORT, **keys)
    assert runs.metrics(stopped) == runs.metrics(whole)
    assert runs.state(stopped, 6) == runs.state(whole, 6)


def _stop_in_the_third_step(file: MetricsFile, end: Any) -> None:
    LINE(file, end)
    if end.metrics.step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
