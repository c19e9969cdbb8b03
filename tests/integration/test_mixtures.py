"""Recipes of several data sets: how often each comes, its losses, duplicates and lost tokens, and a resumed run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from axo.errors import CheckpointError, DataError
from axo.recipe.read import read_recipe
from axo.train.orders import open_prepared
from axo.train.stop import StopFlag
from axo.workflows.evaluate import evaluate
from axo.workflows.prepare import prepare_run
from axo.workflows.train import train

FORM = {"format": "{instruction} -> "}


def metrics_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def entries(lab: Any) -> list[dict[str, Any]]:
    """The 26 rows of the lab as two data sets of 18 and 8."""
    rows = (lab.folder / "rows.jsonl").read_text().splitlines(keepends=True)
    paths = [lab.folder / "math.jsonl", lab.folder / "code.jsonl"]
    for path, own in zip(paths, (rows[:18], rows[18:]), strict=True):
        path.write_text("".join(own))
    return [{"path": str(path), "type": FORM} for path in paths]


def prepared_of(path: Path) -> tuple[Any, Any]:
    recipe = read_recipe(path).recipe
    prepared = prepare_run(recipe)
    data = open_prepared(
        prepared.train.path, None if prepared.evaluation is None else prepared.evaluation.path, data=recipe.data,
        section=recipe.batch, batch=prepared.plan.batch, seed=recipe.run.seed,
    )  # fmt: skip
    return prepared, data


def loss_of(model: torch.nn.Module, store: Any, samples: list[int]) -> float:
    """Mean over trained tokens, one sample at a time with the model's own forward."""
    total, count = 0.0, 0
    for sample in samples:
        ids, labels = (torch.tensor(values.astype("int64")) for values in store[sample])
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum").item()
        count += int((labels[1:] != -100).sum())
    return total / count


@pytest.mark.parametrize("packing", [False, True])
def test_a_mixture_is_planned_and_trained_as_the_recipe_says(lab: Any, entries: Any, packing: bool) -> None:
    mixed = [{**entries[0], "repeat": 0.5}, {**entries[1], "repeat": 2.25}]
    path = lab.recipe("out", datasets=mixed, num_epochs=3, sample_packing=packing, save_strategy="no")
    prepared, data = prepared_of(path)
    steps = []
    for epoch in range(3):
        found = Counter(int(one) for packs in data.train_order.steps(epoch) for pack in packs for one in pack)
        assert sum(found[sample] for sample in range(18)) == 9
        assert sorted(found[sample] for sample in range(18, 26)) == [2] * 6 + [3] * 2
        steps.append(data.train_order.steps_in(epoch))
    assert prepared.plan.steps.total_steps == sum(steps)
    said = {one.key: one for one in prepared.plan.decisions}
    assert said["datasets.0"].effective.startswith("9 samples an epoch")
    assert (said["datasets.1"].asked, said["datasets.1"].effective[:19]) == ("repeat: 2.25", "18 samples an epoch")
    train(read_recipe(path), fresh=False, show_plan=lambda _: None, show=lambda _: None)
    lines = metrics_of(lab.folder / "out")
    assert len(lines) == sum(steps)
    assert lines[-1]["epoch"] == 3


def test_losses_of_each_data_set_are_those_of_its_samples_alone(lab: Any, entries: Any, tiny_llama_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    keys = {
        "datasets": entries, "sample_packing": True, "val_set_size": 9, "max_steps": 1, "eval_steps": 1,
        "save_strategy": "no", "gradient_accumulation_steps": 50,
    }  # fmt: skip
    out = lab.train("out", **keys)
    _, data = prepared_of(lab.folder / "out.yaml")
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32).eval()
    (line,) = metrics_of(out)
    (packs,) = data.train_order.steps(0)
    trained = [int(sample) for pack in packs for sample in pack]
    held_out = [int(sample) for pack in data.eval_order.packs for sample in pack]
    assert len(trained) == 17 and len(held_out) == 9
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    scored = evaluate(read_recipe(lab.folder / "out.yaml").recipe, base=False, show=lambda _: None)
    for number, name in enumerate(("math", "code")):
        own = [sample for sample in trained if data.train_store.sets[sample] == number]
        assert line[f"loss_{name}"] == pytest.approx(loss_of(base, data.train_store, own), rel=1e-5)
        own = [sample for sample in held_out if data.eval_store.sets[sample] == number]
        expected = loss_of(model, data.eval_store, own)
        assert line[f"eval_loss_{name}"] == pytest.approx(expected, rel=1e-5)
        assert scored.set_losses[name] == pytest.approx(expected, rel=1e-5)
    assert line["loss"] == pytest.approx(loss_of(base, data.train_store, trained), rel=1e-5)


def test_one_data_set_has_no_losses_of_its_own(lab: Any) -> None:
    out = lab.train("out", max_steps=1, val_set_size=4, save_strategy="no")
    assert not [key for line in metrics_of(out) for key in line if key.startswith(("loss_", "eval_loss_"))]


def test_a_resumed_mixture_goes_on_with_the_same_samples(
    lab: Any, entries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [{**entries[0], "weight": 1}, {**entries[1], "weight": 3}]
    keys = {"datasets": mixed, "num_epochs": 2, "save_steps": 1, "save_strategy": "steps", "sample_packing": True}
    whole = metrics_of(lab.train("whole", **keys, gradient_accumulation_steps=2))
    path = lab.recipe("parts", **keys, gradient_accumulation_steps=2)
    from axo.errors import Stopped
    from axo.train.hooks.metrics_file import MetricsFile

    after_step = MetricsFile.after_step
    flags: list[StopFlag] = []
    init = StopFlag.__init__
    monkeypatch.setattr(StopFlag, "__init__", lambda self, **given: (init(self, **given), flags.append(self))[0])

    def stopping(self: MetricsFile, end: Any) -> None:
        after_step(self, end)
        if end.metrics.step == len(whole) // 2:
            flags[-1].requested = True

    monkeypatch.setattr(MetricsFile, "after_step", stopping)
    with pytest.raises(Stopped):
        train(read_recipe(path), fresh=False, show_plan=lambda _: None, show=lambda _: None)
    monkeypatch.setattr(MetricsFile, "after_step", after_step)
    other = lab.recipe("parts", **{**keys, "datasets": [mixed[0], {**mixed[1], "weight": 2}]},
                       gradient_accumulation_steps=2)  # fmt: skip
    with pytest.raises(CheckpointError, match="mixture"):
        train(read_recipe(other), fresh=False, show_plan=lambda _: None, show=lambda _: None)
    path = lab.recipe("parts", **keys, gradient_accumulation_steps=2)
    train(read_recipe(path), fresh=False, show_plan=lambda _: None, show=lambda _: None)
    parts = metrics_of(lab.folder / "parts")
    for key in ("step", "loss", "loss_math", "loss_code", "trained_tokens", "epoch"):
        assert [line.get(key) for line in parts] == [line.get(key) for line in whole]


def test_too_many_lost_tokens_stop_the_run_before_training_and_the_data_stays(lab: Any, entries: Any) -> None:
    keys = {"datasets": entries, "sequence_len": 60, "max_steps": 1, "save_strategy": "no"}
    path = lab.recipe("out", **keys)
    with pytest.raises(DataError, match="of the tokens of this data set would be lost") as refused:
        train(read_recipe(path), fresh=False, show_plan=lambda _: None, show=lambda _: None)
    assert refused.value.file in [entry["path"] for entry in entries]
    assert not (lab.folder / "out" / "metrics.jsonl").exists()
    prepared = prepare_run(read_recipe(lab.recipe("out", **keys, max_lost_tokens=1)).recipe)
    assert prepared.train.from_cache
    warned = [one for one in prepared.plan.decisions if one.warning]
    assert {one.key for one in warned} <= {"datasets.0", "datasets.1"}
    lossy = [report for report in prepared.train.reports if report.tokens_lost]
    assert lossy
    for one, report in zip(warned, lossy, strict=True):
        assert f"({report.tokens_dropped:,} of {report.tokens_read:,})" in one.effective
        assert one.why.startswith(f"{report.samples_dropped_long} sample longer than sequence_len (60) dropped")


def test_test_data_has_a_length_of_its_own_and_holds_no_row_of_the_training_data(lab: Any, entries: Any) -> None:
    keys = {
        "datasets": entries[:1], "test_datasets": entries, "dataset_exact_deduplication": True, "sample_packing": True,
        "max_lost_tokens": 1, "sequence_len": 192,
    }  # fmt: skip
    test = Path(entries[0]["path"]).with_name("test.jsonl")
    test.write_text(Path(entries[0]["path"]).read_text() + Path(entries[1]["path"]).read_text())
    keys["test_datasets"] = [{"path": str(test), "type": FORM}]
    prepared, data = prepared_of(lab.recipe("out", **keys, eval_sequence_len=100))
    (report,) = prepared.evaluation.reports
    assert (report.rows, report.samples_dropped_duplicate) == (26, 18)
    assert report.samples + report.samples_dropped_long == 8
    packs = [int(data.eval_store.lengths[pack].sum()) for pack in data.eval_order.packs]
    assert max(packs) <= 100
    assert report.tokens_read == report.tokens_kept + report.tokens_dropped + report.tokens_truncated


def test_curriculum_and_parts_take_the_samples_that_they_say(lab: Any, entries: Any) -> None:
    def order(**keys: Any) -> list[int]:
        _, data = prepared_of(lab.recipe("out", datasets=entries, **keys))
        return [int(sample) for packs in data.train_order.steps(1) for pack in packs for sample in pack]

    assert order(curriculum_sampling=True) == list(range(26))
    joined = order(shuffle_before_merging_datasets=True, shuffle_merged_datasets=False)
    assert (sorted(joined[:18]), sorted(joined[18:])) == (list(range(18)), list(range(18, 26)))
    assert joined != list(range(26))
    parts = [order(dataset_shard_num=3, dataset_shard_idx=index) for index in range(3)]
    assert sorted(len(part) for part in parts) == [8, 9, 9]
    assert sorted(sample for part in parts for sample in part) == list(range(26))
    in_order = order(dataset_shard_num=3, dataset_shard_idx=1, shuffle_merged_datasets=False)
    assert in_order == list(range(9, 18))
    grouped = order(group_by_length=True)
    assert sorted(grouped) == list(range(26))
