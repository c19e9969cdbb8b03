"""What one worker is composed of, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from axo.errors import HardwareError, RecipeError, Stopped, TrainingError
from axo.plan.plan import Plan
from axo.recipe.read import read_recipe
from axo.recipe.recipe import Recipe
from axo.train import worker
from axo.train.job import Job
from axo.train.place import Place
from axo.train.run import build, run
from axo.workflows import train as train_workflow
from axo.workflows.prepare import prepare_run

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
SHORT = {"max_steps": 2, "save_strategy": "no"}


def planned(recipe: Path) -> tuple[Recipe, Plan]:
    loaded = read_recipe(recipe).recipe
    return loaded, prepare_run(loaded).plan


def build_it(lab: Any, **keys: Any) -> tuple[Any, Any, Any]:
    recipe, plan = planned(lab.recipe("out", **keys))
    return build(recipe, plan, device=torch.device("cpu"))


@pytest.fixture
def make_job(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The job that `axo train` would run, its output_dir made ready."""

    def make(**keys: Any) -> Job:
        jobs: list[Job] = []
        monkeypatch.setattr(train_workflow, "_work", jobs.append)
        lab.train("out", **keys)
        return jobs[0]

    return make


def test_a_full_run_trains_every_weight(lab: Any) -> None:
    _, _, objective = build_it(lab)
    assert all(parameter.requires_grad for parameter in objective.parameters())


def test_an_adapter_run_trains_only_its_low_rank_matrices(lab: Any) -> None:
    _, _, objective = build_it(lab, **LORA)
    trained = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 7 * 2, "two matrices for seven linear layers in each of two layers"
    assert all("lora_A" in name or "lora_B" in name for name in trained)


@pytest.mark.parametrize("keys", [{}, LORA], ids=["full", "lora"])
def test_layers_are_recomputed_only_where_the_recipe_says_so(lab: Any, keys: dict[str, Any]) -> None:
    def switched_on(**more: Any) -> set[bool]:
        _, _, objective = build_it(lab, **keys, **more)
        layers = [one for one in objective.modules() if type(one).__name__ == "LlamaDecoderLayer"]
        return {layer.gradient_checkpointing for layer in layers}

    assert switched_on() == {False}
    assert switched_on(gradient_checkpointing=True) == {True}


@pytest.mark.parametrize("asked", [True, False])
def test_the_loss_is_chunked_or_not_as_planned(lab: Any, asked: bool) -> None:
    _, _, objective = build_it(lab, chunked_cross_entropy=asked)
    assert objective.chunked is asked


def test_new_tokens_beside_an_adapter_need_trained_embeddings(lab: Any) -> None:
    with pytest.raises(RecipeError, match=r"lora_modules_to_save: \[embed_tokens, lm_head\]"):
        build_it(lab, **LORA, tokens=["<new>"])
    _, _, objective = build_it(lab, **LORA, tokens=["<new>"], lora_modules_to_save=["embed_tokens", "lm_head"])
    trained = [name for name, parameter in objective.named_parameters() if parameter.requires_grad]
    assert sum("modules_to_save" in name for name in trained) == 2


def test_new_tokens_of_a_full_run_need_nothing(lab: Any) -> None:
    tokenizer, _, objective = build_it(lab, tokens=["<new>"])
    assert objective.model.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_training_happens_in_training_mode(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers loads models in evaluation mode, in which neither dropout nor recomputation works."""
    from axo.engines.single import Single

    modes: list[bool] = []
    accumulate = Single.accumulate

    def recorded(self: Single, micro_batches: Any, *, divisor: float) -> list[float]:
        modes.append(all(module.training for module in self._objective.modules()))
        return accumulate(self, micro_batches, divisor=divisor)

    monkeypatch.setattr(Single, "accumulate", recorded)
    run(make_job(**SHORT, **LORA, val_set_size=4, eval_steps=1))
    assert modes == [True, True]


def test_data_that_changed_after_planning_stops_the_run(make_job: Any) -> None:
    job = make_job(**SHORT)
    assert job.plan.steps is not None
    steps = job.plan.steps.model_copy(update={"steps_per_epoch": 99})
    with pytest.raises(TrainingError, match="the Plan says 99 steps an epoch, the data gives 7"):
        run(job.model_copy(update={"plan": job.plan.model_copy(update={"steps": steps})}))


def test_the_final_save_is_whole_and_marks_the_run_as_finished(make_job: Any, lab: Any) -> None:
    job, out = make_job(**SHORT), lab.folder / "out"
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    (out / ".final.writing").mkdir()
    (out / ".final.writing" / "half").write_text("from a run that was killed while saving")
    run(job)
    assert json.loads((out / "run.json").read_text())["status"] == "finished"
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any(name.startswith((".final", "half")) for name in names)


def test_the_saved_tokenizer_brings_the_recipes_chat_template(make_job: Any, lab: Any) -> None:
    from transformers import AutoTokenizer

    run(make_job(**SHORT, chat_template="llama3"))
    assert "<|start_header_id|>" in AutoTokenizer.from_pretrained(lab.folder / "out").chat_template


def test_a_stop_is_told_with_the_step_that_was_finished(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from axo.train.hooks.console import Console
    from axo.train.stop import StopFlag

    flags: list[StopFlag] = []
    listen = StopFlag.listen

    def kept(self: StopFlag) -> Any:
        flags.append(self)
        return listen(self)

    monkeypatch.setattr(StopFlag, "listen", kept)
    monkeypatch.setattr(Console, "after_step", lambda self, end: setattr(flags[0], "requested", True))
    with pytest.raises(Stopped, match="stopped after step 2; the same command goes on from there"):
        run(make_job(max_steps=5, save_strategy="no"))


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: Tried to allocate 2 GiB"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["GPU", "CPU"])
def test_running_out_of_memory_names_the_plans_numbers(
    make_job: Any, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def full(job: Job, place: Place) -> None:
        del place
        raise error

    monkeypatch.setattr(worker, "run", full)
    job = make_job(**SHORT, micro_batch_size=2, pad_to_sequence_len=True)
    with pytest.raises(HardwareError) as raised:
        worker.work(job)
    assert "micro_batch_size 2 (2 rows of 192 tokens)" in raised.value.message
    assert "weights in float32" in raised.value.message and "Tried to allocate 2 GiB" in raised.value.message
    assert "gradient_checkpointing: true" in str(raised.value)


def test_a_job_comes_back_from_its_file_as_it_was(make_job: Any, tmp_path: Path) -> None:
    job = make_job(**SHORT, **LORA)
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


def test_a_job_from_its_file_trains_as_the_job_itself(make_job: Any, lab: Any, tmp_path: Path) -> None:
    job = make_job(**SHORT, **LORA)
    job.write(tmp_path / "job.json")
    out = lab.folder / "out"
    run(job)
    first = (out / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(out)
    out.mkdir()
    run(Job.read(tmp_path / "job.json"))
    assert (out / "adapter_model.safetensors").read_bytes() == first
