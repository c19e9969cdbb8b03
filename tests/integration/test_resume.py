"""C1 and C5: a run that was stopped or killed goes on as if nothing had happened, bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from axo.errors import Stopped

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "lora_target_linear": True}
EVALUATED = {"val_set_size": 4, "eval_strategy": None, "eval_steps": 3}
CASES: dict[str, dict[str, Any]] = {
    "full with dropout": {},
    "full packed": {"sample_packing": True, "gradient_accumulation_steps": 2},
    "lora evaluated": {**LORA, **EVALUATED, "gradient_checkpointing": True},
    "lora packed": {**LORA, "sample_packing": True, "gradient_accumulation_steps": 2},
    "full bf16": {"bf16": True, "learning_rate": 1e-3},
}


@pytest.fixture
def keys(request: pytest.FixtureRequest, tiny_llama_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """The keys of a case; `full with dropout` trains a copy of the model that drops attention weights."""
    chosen = dict(CASES[request.param])
    if request.param == "full with dropout":
        base = tmp_path / "dropout"
        shutil.copytree(tiny_llama_dir, base)
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.1}))
        chosen["base_model"] = str(base)
    return chosen


def call_at_step(step: int, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Do something right after the line of a step was written."""
    from axo.train.hooks.metrics_file import MetricsFile

    write = MetricsFile.after_step

    def after_step(self: MetricsFile, end: Any) -> None:
        write(self, end)
        if end.metrics.step == step:
            act()

    patch.setattr(MetricsFile, "after_step", after_step)


def die_after(updates: int) -> None:
    """Kill this process inside of a step: after so many updates, in front of the second micro-batch."""
    from axo.engines import step

    backward, update = step.backward, step.update
    done = {"updates": 0, "backwards": 0}

    def counted_backward(*args: Any, **kwargs: Any) -> Any:
        if done == {"updates": updates, "backwards": 1}:
            os.kill(os.getpid(), signal.SIGKILL)
        done["backwards"] += 1
        return backward(*args, **kwargs)

    def counted_update(*args: Any, **kwargs: Any) -> Any:
        done.update(updates=done["updates"] + 1, backwards=0)
        return update(*args, **kwargs)

    step.backward, step.update = counted_backward, counted_update


def assert_same_run(runs: Runs, undisturbed: Path, other: Path) -> None:
    lines = runs.metrics(undisturbed)
    assert runs.metrics(other) == lines
    last = 2 * (len(lines) // 2)  # saved every second step
    for name, content in runs.state(undisturbed, last).items():
        assert runs.state(other, last)[name] == content, name
    assert runs.trained(other) == runs.trained(undisturbed)


@pytest.mark.parametrize("keys", CASES, indirect=True)
def test_a_stopped_run_goes_on_bit_by_bit(runs: Runs, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped twice: at the end of an epoch or mid-epoch, as the packing wants it, and later once more."""
    undisturbed = runs.train("undisturbed", **keys)
    total = runs.steps(undisturbed)
    per_epoch = total // 2
    assert total >= 8 and per_epoch * 2 == total
    for asked in (per_epoch - 1, per_epoch + 1):  # a stop takes effect at the end of the step that follows
        with monkeypatch.context() as patch:
            call_at_step(asked, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
            with pytest.raises(Stopped, match=f"step {asked + 1};"):
                runs.train("stopped", **keys)
        assert runs.steps(runs.folder / "stopped") == asked + 1
    assert_same_run(runs, undisturbed, runs.train("stopped", **keys))


@pytest.mark.parametrize("keys", CASES, indirect=True)
def test_a_killed_run_goes_on_bit_by_bit(runs: Runs, keys: dict[str, Any]) -> None:
    """Killed between two micro-batches of a step: before the first checkpoint, in the first epoch, in the second."""
    undisturbed = runs.train("undisturbed", **keys)
    per_epoch = runs.steps(undisturbed) // 2
    for updates, step in ((1, 1), (3, 3), (per_epoch, per_epoch + 2)):  # the third goes on from checkpoint-2
        child = runs.start("killed", first=lambda updates=updates: die_after(updates), **keys)
        assert child.wait() == -signal.SIGKILL, child.output()
        assert runs.steps(runs.folder / "killed") == step
    assert_same_run(runs, undisturbed, runs.train("killed", **keys))


def test_dropout_and_order_differ_between_steps_and_epochs(runs: Runs) -> None:
    """Otherwise the tests above would pass without random states and without positions."""
    out = runs.train("run", **LORA, learning_rate=1e-30)
    losses = [line["loss"] for line in runs.metrics(out)]
    assert len(set(losses)) == len(losses)
    tokens = [line["trained_tokens"] for line in runs.metrics(out)]
    assert sorted(tokens[:7]) != sorted(tokens[7:])


def test_evaluation_checkpoints_and_trackers_change_no_later_loss(runs: Runs) -> None:
    pytest.importorskip("tensorboard")
    keys = {**LORA, "val_set_size": 4}
    plain = runs.train("plain", **keys, save_strategy="no", save_steps=None)
    busy = runs.train(
        "busy", **keys, eval_strategy=None, eval_steps=1, save_steps=1, save_total_limit=1, use_tensorboard=True
    )
    lines = runs.metrics(busy)
    scores = [{key: line.pop(key) for key in list(line) if key.startswith("eval_")} for line in lines]
    assert all(scores) and list((busy / "runs").iterdir()) and list(busy.glob("checkpoint-*"))
    assert not list(plain.glob("checkpoint-*"))
    assert lines == runs.metrics(plain)
    assert runs.trained(busy) == runs.trained(plain)
