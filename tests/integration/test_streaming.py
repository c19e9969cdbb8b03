"""Data that is read while training goes on: the losses of prepared data, on any number of workers, killed or not."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from axo.errors import DataError, Stopped

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

WORDS = "the quick brown fox jumps over a lazy dog while seven zebras watch and nobody answers the question".split()
ROWS = 26
STREAMED: dict[str, Any] = {
    "datasets": None, "num_epochs": None, "streaming_multipack_buffer_size": 10, "max_steps": 16,
    "sample_packing": True, "gradient_accumulation_steps": 2, "sequence_len": 64,
}  # fmt: skip
"""Three buffers an epoch, of 10, 10 and 6 rows; with 2 rows a step two epochs or so."""
LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "lora_target_linear": True}


def write_rows(folder: Path, *, name: str = "texts.jsonl", seed: int = 1, count: int = ROWS) -> Path:
    draw = random.Random(seed)
    rows = [" ".join(draw.choices(WORDS, k=draw.randint(2, 20))) for _ in range(count)]
    path = folder / name
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return path


@pytest.fixture
def streamed(tmp_path: Path) -> dict[str, Any]:
    """Keys of a run over plain text that is streamed."""
    return {**STREAMED, "pretraining_dataset": [{"path": str(write_rows(tmp_path))}]}


def buffers_of(output_dir: Path) -> list[dict[str, int]]:
    """Where the checkpoints of a run stand in the stream, by their step."""
    folders = sorted(output_dir.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    return [json.loads((folder / "train_state.json").read_text())["stream"] for folder in folders]


def die_after(updates: int) -> None:
    """Kill this process inside of a step: after so many updates, when the next one has its gradients."""
    from axo.engines import step

    update = step.update
    done = 0

    def counted_update(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        if done == updates:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return update(*args, **kwargs)

    step.update = counted_update


def assert_same_run(runs: Runs, undisturbed: Path, other: Path, *, last: int = 16) -> None:
    assert runs.metrics(other) == runs.metrics(undisturbed)
    for name, content in runs.state(undisturbed, last).items():
        assert runs.state(other, last)[name] == content, name
    assert runs.trained(other) == runs.trained(undisturbed)


def test_streamed_data_gives_the_losses_of_prepared_data(runs: Runs, tmp_path: Path) -> None:
    """The order is that of the rows in both, and a buffer holds an epoch: all else is the same code or none."""
    keys = {
        **STREAMED, "datasets": [{"path": str(write_rows(tmp_path)), "type": "completion"}],
        "shuffle_merged_datasets": False, "streaming_multipack_buffer_size": None,
    }  # fmt: skip
    prepared = runs.metrics(runs.train("prepared", **keys))
    streamed = runs.metrics(runs.train("streamed", **keys, streaming=True))
    assert [line["loss"] for line in streamed] == [line["loss"] for line in prepared]
    ends = [line["step"] for line in prepared if line["epoch"] == int(line["epoch"])]
    assert [line["epoch"] for line in streamed] == [int(line["epoch"]) for line in prepared]
    assert [streamed[end - 1]["rows"] for end in ends] == [ROWS * number for number in range(1, len(ends) + 1)]
    assert all("rows" not in line for line in prepared) and len(ends) >= 2


def test_a_run_stopped_within_a_buffer_and_in_a_later_epoch_goes_on_bit_by_bit(
    runs: Runs, streamed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from axo.train.hooks.metrics_file import MetricsFile

    undisturbed = runs.train("undisturbed", **streamed, save_total_limit=99)
    places = buffers_of(undisturbed)
    assert any(place["step"] for place in places) and places[-1]["epoch"] >= 1
    write = MetricsFile.after_step
    for asked in (2, 11):  # a stop takes effect at the end of the step that follows

        def after_step(self: MetricsFile, end: Any, asked: int = asked) -> None:
            write(self, end)
            if end.metrics.step == asked:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(MetricsFile, "after_step", after_step)
        with pytest.raises(Stopped, match=f"step {asked + 1};"):
            runs.train("stopped", **streamed, save_total_limit=99)
    monkeypatch.undo()
    assert_same_run(runs, undisturbed, runs.train("stopped", **streamed, save_total_limit=99))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        pytest.param({"pretrain_multipack_attn": False, **LORA}, marks=pytest.mark.slow),
        pytest.param({"sample_packing": False, "pretraining_sample_concatenation": True}, marks=pytest.mark.slow),
        pytest.param({"sample_packing": False, "shuffle_merged_datasets": False, **LORA}, marks=pytest.mark.slow),
        pytest.param({"streaming_multipack_buffer_size": 3}, marks=pytest.mark.slow),
        pytest.param({"sequence_len": 32}, marks=pytest.mark.slow),
    ],
    ids=["packed", "seeing each other", "concatenated", "one by one", "small buffers", "windows"],
)
def test_a_killed_run_goes_on_bit_by_bit(runs: Runs, streamed: dict[str, Any], keys: dict[str, Any]) -> None:
    """Killed inside of a step: before the first checkpoint, within a buffer, in a later epoch."""
    streamed = {**streamed, **keys}
    undisturbed = runs.train("undisturbed", **streamed)
    for updates, step in ((1, 1), (3, 3), (10, 12)):  # the third goes on from checkpoint-2
        child = runs.start("killed", first=lambda updates=updates: die_after(updates), **streamed)
        assert child.wait() == -signal.SIGKILL, child.output()
        assert runs.steps(runs.folder / "killed") == step
    assert_same_run(runs, undisturbed, runs.train("killed", **streamed))


@pytest.mark.slow
def test_a_kill_after_any_step_changes_nothing(runs: Runs, streamed: dict[str, Any]) -> None:
    keys = {**streamed, "save_steps": 1, "save_total_limit": 2}
    undisturbed = runs.train("undisturbed", **keys)
    for step in range(1, 16):
        child = runs.start("killed", first=lambda: die_after(1), **keys)
        assert child.wait() == -signal.SIGKILL, child.output()
        assert runs.steps(runs.folder / "killed") == step
    assert_same_run(runs, undisturbed, runs.train("killed", **keys))


@pytest.mark.slow
@pytest.mark.distributed
def test_two_workers_have_the_losses_of_one(runs: Runs, streamed: dict[str, Any]) -> None:
    keys = {**streamed, "max_steps": 10, "save_strategy": "no", "save_steps": None}
    one = runs.metrics(runs.train("one", **keys))
    recipe = runs.recipe("two", **{**keys, "world_size": 2, "gradient_accumulation_steps": 1})
    child = runs.fork(lambda: _axo("train", str(recipe)))
    assert child.wait() == 0, child.output()
    two = runs.metrics(runs.folder / "two")
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=1e-5)
    for name in ("trained_tokens", "rows", "epoch"):
        assert [line[name] for line in two] == [line[name] for line in one]


def _axo(*words: str) -> None:
    from axo.cli.main import main

    sys.argv = ["axo", *words]
    main()


def test_a_fault_in_the_middle_of_the_data_leaves_a_checkpoint_and_is_mended(
    runs: Runs, streamed: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that was cut off by it goes on, and has the losses of one that never saw it."""
    monkeypatch.setattr("axo.data.stream.PROBED_ROWS", 5)
    path = Path(streamed["pretraining_dataset"][0]["path"])
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    keys = {**streamed, "save_steps": 50}
    undisturbed = runs.train("undisturbed", **keys)
    path.write_text("".join([*lines[:14], "{oops\n", *lines[15:]]))
    with pytest.raises(DataError) as caught:
        runs.train("cut", **keys)
    assert (caught.value.file, caught.value.line) == (str(path), 15)
    steps = runs.steps(runs.folder / "cut")
    assert steps == buffers_of(runs.folder / "cut")[0]["step"] > 1, "all steps of the buffer before it"
    with pytest.raises(DataError):
        runs.train("cut", **keys)
    path.write_text(whole)
    with caplog.at_level("WARNING", logger="axo"):
        assert runs.metrics(runs.train("cut", **keys)) == runs.metrics(undisturbed)
    assert runs.trained(runs.folder / "cut") == runs.trained(undisturbed)


def test_a_wrong_first_row_is_said_before_a_model_is_loaded(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"words": "no text"}\n')
    with pytest.raises(DataError, match=r"wrong\.jsonl:1"):
        runs.train("run", **STREAMED, pretraining_dataset=[{"path": str(path)}], base_model=str(_no_weights(runs)))


def _no_weights(runs: Runs) -> Path:
    """The base model without its weights: nobody can load it."""
    import shutil

    import yaml

    base = yaml.safe_load(runs.recipe("plain").read_text())["base_model"]
    target = runs.folder / "no-weights"
    shutil.copytree(base, target, ignore=shutil.ignore_patterns("*.safetensors"))
    return target


def test_test_datasets_are_prepared_and_scored_and_the_stream_is_not(
    runs: Runs, streamed: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    scored = write_rows(runs.folder, name="scored.jsonl", seed=9, count=6)
    keys = {
        **streamed, "test_datasets": [{"path": str(scored), "type": "pretrain"}], "eval_strategy": None,
        "eval_steps": 8, "save_strategy": "no", "save_steps": None,
    }  # fmt: skip
    recipe = runs.recipe("run", **keys)
    child = runs.fork(lambda: _axo("preprocess", str(recipe)))
    assert child.wait() == 0, child.output()
    assert "train: not prepared, for it is read while training goes on" in child.output()
    assert "6 rows" in child.output()
    lines = runs.metrics(runs.train("run", **keys))
    assert ["eval_loss" in line for line in lines] == [step in (8, 16) for step in range(1, 17)]
    child = runs.fork(lambda: _axo("evaluate", str(recipe), "--json"))
    assert child.wait() == 0, child.output()
    (answer,) = [line for line in child.output().splitlines() if line.startswith("{")]
    assert json.loads(answer)["loss"] == pytest.approx(lines[-1]["eval_loss"], rel=1e-5)


def test_several_data_sets_of_any_type_are_streamed_one_after_the_other(runs: Runs, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    turns = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n + 1}!"}] for n in range(12)]
    chats.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    keys = {
        **STREAMED, "streaming": True, "sequence_len": 96, "max_steps": 8, "save_steps": None, "save_strategy": "no",
        "datasets": [
            {"path": str(write_rows(tmp_path)), "type": "completion"},
            {"path": str(chats), "type": "chat_template"},
        ],
    }  # fmt: skip
    lines = [line for line in runs.metrics(runs.train("run", **keys)) if line["rows"] <= ROWS + 12]
    assert all("loss_texts" in line and "loss_chats" not in line for line in lines if line["rows"] <= 20)
    assert any("loss_chats" in line for line in lines)


def test_validate_says_that_the_data_is_streamed(runs: Runs, streamed: dict[str, Any]) -> None:
    recipe = runs.recipe("run", **{**streamed, "save_steps": None})
    child = runs.fork(lambda: _axo("validate", str(recipe)))
    assert child.wait() == 0, child.output()
    assert "max_steps: 16 -> 16 steps (the data is streamed: its rows and tokens are counted" in child.output()
    assert "warning: unset -> at the end of each epoch" in child.output() and "set save_steps" in child.output()
    child = runs.fork(lambda: _axo("explain", str(recipe)))
    assert child.wait() == 0, child.output()
    assert "read while training goes on" in child.output()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c4_demo.jsonl", "wiki_demo.txt"])
def test_real_text_is_streamed(runs: Runs, shared_data: Path, name: str) -> None:
    keys = {**STREAMED, "streaming_multipack_buffer_size": 50, "sequence_len": 256, "max_steps": 6}
    lines = runs.metrics(runs.train("run", **keys, pretraining_dataset=[{"path": str(shared_data / name)}]))
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_shipped_recipe_goes_the_whole_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from axo.recipe.read import read_recipe
    from axo.workflows.smoke import smoke

    monkeypatch.chdir(root)
    said: list[str] = []
    loaded = read_recipe(root / "recipes" / "pretrain-streaming.yaml")
    report = smoke(loaded, show_plan=lambda plan: None, show=said.append)
    assert report["smoke"] == "passed" and len(report["losses"]) == 4
    assert "smoke: streaming_multipack_buffer_size: 1000 -> 16" in said


@pytest.mark.slow
@pytest.mark.distributed
def test_two_workers_that_were_killed_go_on_bit_by_bit(runs: Runs, streamed: dict[str, Any]) -> None:
    keys = {**streamed, "world_size": 2, "gradient_accumulation_steps": 1, "max_steps": 60}
    whole = runs.fork(lambda: _axo("train", str(runs.recipe("whole", **keys))))
    assert whole.wait() == 0, whole.output()
    killed = runs.start("killed", **keys)
    out = runs.folder / "killed"
    while runs.steps(out) < 11 and not killed.ended():
        time.sleep(0.001)
    killed.signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, killed.output()
    again = runs.start("killed", **keys)
    assert again.wait() == 0 and "going on from" in again.output(), again.output()
    assert runs.metrics(out) == runs.metrics(runs.folder / "whole")
    assert runs.trained(out) == runs.trained(runs.folder / "whole")
