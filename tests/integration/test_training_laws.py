"""L11, S1, E1, E2, M5, L8, L10: whole runs of tiny models against transformers, peft and plain loops."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash

from axo.data.order import Order
from axo.engines.single import Single
from axo.errors import DataError
from axo.objectives.causal_lm import CausalLM
from axo.plan.plan import Plan
from axo.recipe.read import LoadedRecipe, read_recipe
from axo.recipe.recipe import Recipe
from axo.train.evaluate import Evaluation
from axo.train.orders import open_prepared
from axo.types import Batch
from axo.workflows.evaluate import evaluate
from axo.workflows.merge import merge
from axo.workflows.prepare import prepare_run
from axo.workflows.train import train

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
PACKED = {"sample_packing": True, "sequence_len": 96}
METRICS = ["step", "epoch", "loss", "lr", "grad_norm", "trained_tokens", "tokens_per_second", "peak_memory_bytes"]


def silent(_: Any) -> None:
    return


def load(recipe: Path) -> LoadedRecipe:
    return read_recipe(recipe)


def metrics_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(folder: Path) -> list[float]:
    return [line["loss"] for line in metrics_of(folder)]


# L11


def order_of(recipe: Recipe) -> tuple[Any, Order, Order | None]:
    """The samples as plain `datasets` opens them, and the orders of training and evaluation."""
    import datasets

    prepared = prepare_run(recipe)
    data = open_prepared(
        prepared.train.path,
        None,
        data=recipe.data,
        section=recipe.batch,
        batch=prepared.plan.batch,
        seed=recipe.run.seed,
    )
    samples = datasets.load_from_disk(str(prepared.train.path)).with_format(None)
    return samples, data.train_order, data.eval_order


def padded(samples: Any, packs: list[np.ndarray], *, pad_id: int) -> dict[str, torch.Tensor]:
    """One sample a row, filled up on the right, with an attention mask."""
    rows = [samples[int(index)] for (index,) in packs]
    T = max(len(row["input_ids"]) for row in rows)
    filled = {
        "input_ids": [row["input_ids"] + [pad_id] * (T - len(row["input_ids"])) for row in rows],
        "labels": [row["labels"] + [-100] * (T - len(row["labels"])) for row in rows],
        "attention_mask": [[1] * len(row["labels"]) + [0] * (T - len(row["labels"])) for row in rows],
    }
    return {name: torch.tensor(values) for name, values in filled.items()}


def packed(samples: Any, packs: list[np.ndarray], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Several samples a row: transformers keeps them apart by position_ids where there is no attention mask."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
    T = max(sum(len(samples[int(index)]["labels"]) for index in pack) for pack in packs)
    for pack in packs:
        row: dict[str, list[int]] = {"input_ids": [], "labels": [], "position_ids": []}
        for index in pack:
            sample = samples[int(index)]
            row["input_ids"] += sample["input_ids"]
            row["labels"] += [-100, *sample["labels"][1:]]
            row["position_ids"] += range(len(sample["labels"]))
        rest = T - len(row["labels"])
        row["input_ids"] += [pad_id] * rest
        row["labels"] += [-100] * rest
        row["position_ids"] += range(rest)
        for name, values in row.items():
            rows[name].append(values)
    return {name: torch.tensor(values) for name, values in rows.items()}


class Epochs(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The micro-batches of an epoch, ready made; the trainer says which epoch it is."""

    def __init__(self, epochs: list[list[dict[str, torch.Tensor]]]) -> None:
        self.epochs = epochs
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.epochs[0])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.epochs[self.epoch][index]


def train_with_transformers(
    model: torch.nn.Module, epochs: list[list[dict[str, torch.Tensor]]], folder: Path, **arguments: Any
) -> list[dict[str, float]]:
    """What transformers.Trainer logs of each step."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    data = Epochs(epochs)

    class Fed(Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(data, batch_size=1, collate_fn=lambda items: items[0])

    class Turn(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            data.epoch = round(state.epoch)

    trainer = Fed(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder), logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
            disable_tqdm=True, remove_unused_columns=False, logging_first_step=True, **arguments,
        ),
        train_dataset=data,
        callbacks=[Turn()],
    )  # fmt: skip
    trainer.train()
    return [line for line in trainer.state.log_history if "grad_norm" in line]


RECIPES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {**LORA},
    "full packed": {**PACKED},
    "lora packed": {**LORA, **PACKED},
}


@pytest.mark.parametrize("name", RECIPES)
def test_twenty_steps_are_those_of_transformers_trainer(lab: Any, name: str, tiny_llama_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    recipe = lab.recipe(
        "out", **RECIPES[name], micro_batch_size=2, gradient_accumulation_steps=2, learning_rate=2e-3, max_steps=20,
        num_epochs=None, lr_scheduler="cosine", warmup_steps=3, weight_decay=0.1, max_grad_norm=0.7,
        save_steps=1, save_total_limit=30, optimizer="adamw_torch",
    )  # fmt: skip
    loaded = load(recipe)
    train(loaded, fresh=False, show_plan=silent, show=silent)
    found = metrics_of(lab.folder / "out")

    samples, order, _ = order_of(loaded.recipe)
    make = packed if loaded.recipe.batch.sample_packing else padded
    epochs = [
        [
            make(samples, packs[begin : begin + 2], pad_id=0)
            for packs in order.steps(epoch)
            for begin in range(0, len(packs), 2)
        ]
        for epoch in range(-(-20 // order.steps_in(0)))
    ]
    assert len(order.packs) % 4, "the last step of an epoch should be smaller than the others"
    assert (max(map(len, order.packs)) > 1) == loaded.recipe.batch.sample_packing
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32)
    if loaded.recipe.adapters.adapter:
        from peft import PeftModel

        # The warmup's first step moves nothing, so the first checkpoint holds the adapter that training started from.
        model = PeftModel.from_pretrained(model, lab.folder / "out" / "checkpoint-1", is_trainable=True)
    expected = train_with_transformers(
        model, epochs, lab.folder / "trainer", max_steps=20, gradient_accumulation_steps=2, learning_rate=2e-3,
        lr_scheduler_type="cosine", warmup_steps=3, weight_decay=0.1, max_grad_norm=0.7, optim="adamw_torch",
    )  # fmt: skip

    assert len(found) == len(expected) == 20
    assert [line["lr"] for line in found] == pytest.approx([line["learning_rate"] for line in expected], rel=1e-12)
    assert max(line["grad_norm"] for line in expected) > 0.7, "clipping should have worked"
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in expected], abs=1e-5)
    norms = [line["grad_norm"] for line in expected]
    assert [line["grad_norm"] for line in found] == pytest.approx(norms, rel=1e-5)
    means = [np.mean([line["loss"] for line in lines]) for lines in (found[:6], found[-6:])]
    assert means[0] - means[1] > 0.05, "something should have been learned"


# S1


SPANS: dict[str, tuple[dict[str, Any], int]] = {
    # 26 samples, 4 rows a step: 7 steps an epoch, the last one of 2 rows
    "half an epoch": ({"num_epochs": 0.5}, 4),
    "an epoch and a half": ({"num_epochs": 1.5}, 11),
    "max_steps inside an epoch": ({"max_steps": 5}, 5),
    "max_steps beyond num_epochs": ({"num_epochs": 1, "max_steps": 9}, 9),
}


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("scheduler", ["cosine", "linear"])
def test_planned_steps_are_taken_and_the_schedule_ends_with_them(lab: Any, name: str, scheduler: str) -> None:
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    keys, steps = SPANS[name]
    plans: list[Plan] = []
    recipe = lab.recipe("out", **keys, lr_scheduler=scheduler, save_strategy="no", save_steps=None)
    train(load(recipe), fresh=False, show_plan=plans.append, show=silent)
    lines = metrics_of(lab.folder / "out")
    assert plans[0].steps is not None
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert plans[0].steps.total_steps == steps
    assert lines[-1]["epoch"] == pytest.approx(steps // 7 + steps % 7 / 7)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    make = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}[scheduler]
    schedule = make(optimizer, num_warmup_steps=2, num_training_steps=steps)
    for line in lines:
        assert line["lr"] == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(0.0, abs=1e-18), "one step further is the schedule's zero"


def test_packed_epochs_take_the_planned_steps_and_see_every_sample_once_each(lab: Any) -> None:
    plans: list[Plan] = []
    recipe = lab.recipe("out", **PACKED, num_epochs=3, save_strategy="no", save_steps=None)
    loaded = load(recipe)
    train(loaded, fresh=False, show_plan=plans.append, show=silent)
    lines = metrics_of(lab.folder / "out")
    samples, order, _ = order_of(loaded.recipe)
    trained = sum(label != -100 for row in samples for label in row["labels"][1:])
    assert plans[0].steps is not None
    assert len(lines) == plans[0].steps.total_steps == 3 * -(-len(order.packs) // 4)
    assert len(order.packs) < len(samples)
    assert sum(line["trained_tokens"] for line in lines) == 3 * trained


# E1


def plain_evaluation(model: torch.nn.Module, samples: Any, indices: list[int]) -> tuple[float, float, int]:
    """Loss and accuracy over all trained tokens, one sample at a time, with the model's own forward."""
    loss, correct, count = 0.0, 0, 0
    for index in indices:
        row = samples[index]
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0].double()
        for position, label in enumerate(labels[1:].tolist()):
            if label == -100:
                continue
            loss -= logits[position].log_softmax(-1)[label].item()
            correct += int(logits[position].argmax().item() == label)
            count += 1
    return loss / count, correct / count, count


def test_evaluation_is_weighted_by_tokens_whatever_the_batches(lab: Any, tiny_llama_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    keys = {"val_set_size": 7, "eval_strategy": None, "max_steps": 5, "eval_steps": 5, "save_steps": None}
    loaded = load(lab.recipe("out", **keys))
    train(loaded, fresh=False, show_plan=silent, show=silent)
    samples, _, order = order_of(loaded.recipe)
    assert order is not None
    held_out = [int(index) for pack in order.packs for index in pack]
    assert len(held_out) == len(set(held_out)) == 7

    model = AutoModelForCausalLM.from_pretrained(lab.folder / "out", dtype=torch.float32)
    loss, accuracy, count = plain_evaluation(model.eval(), samples, held_out)
    in_training = metrics_of(lab.folder / "out")[-1]
    assert in_training["eval_loss"] == pytest.approx(loss, abs=1e-6)
    for rows, is_packed in ((1, False), (3, False), (7, False), (1, True), (4, True)):
        sizes = {"eval_batch_size": rows, "eval_sample_packing": is_packed}
        found = evaluate(load(lab.recipe("eval", **keys, **sizes, output_dir=str(lab.folder / "out"))).recipe,
                         base=False, show=silent)  # fmt: skip
        assert found.loss == pytest.approx(loss, abs=1e-6)
        assert found.perplexity == pytest.approx(np.exp(loss), rel=1e-6)
        assert (found.token_accuracy, found.trained_tokens) == (accuracy, count)

    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32)
    untrained: Evaluation = evaluate(loaded.recipe, base=True, show=silent)
    assert untrained.loss == pytest.approx(plain_evaluation(base.eval(), samples, held_out)[0], abs=1e-6)
    assert untrained.loss - loss > 0.01


# E2


LOGITS_WITHOUT_AXO = """
import sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
full, base, adapter, merged, texts, out = sys.argv[1:]
def logits(model):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(input_ids=ids[None]).logits[0] for ids in load_file(texts).values()])
def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
from peft import PeftModel
save_file({
    "full": logits(load(full)), "merged": logits(load(merged)),
    "adapter": logits(PeftModel.from_pretrained(load(base), adapter)),
    "tokens": torch.tensor(AutoTokenizer.from_pretrained(adapter).apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False)),
}, out)
assert "axo" not in sys.modules
"""


def training_logits(objective: CausalLM, texts: list[torch.Tensor]) -> torch.Tensor:
    """What training computes for the texts in one packed row, in evaluation mode."""
    ids = torch.cat(texts)[None]
    bounds = np.cumsum([0, *(len(text) for text in texts)])
    batch = Batch(
        input_ids=ids,
        targets=ids,
        position_ids=torch.cat([torch.arange(len(text)) for text in texts])[None],
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
    )
    objective.eval()
    with torch.no_grad():
        chunked, _ = objective.both_logits(batch)
    objective.train()
    return chunked


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[CausalLM]:
    """The objectives of the runs of a test, the last one last."""
    prepare = Single.prepare
    seen: list[CausalLM] = []

    def prepare_and_keep(self: Single, objective: CausalLM, make_optimizer: Any) -> None:
        seen.append(objective)
        prepare(self, objective, make_optimizer)

    monkeypatch.setattr(Single, "prepare", prepare_and_keep)
    return seen


def test_logits_of_training_are_those_of_plain_transformers_and_peft(
    lab: Any, tiny_llama_dir: Path, trained: list[CausalLM], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    texts = [torch.randint(3, 250, (length,), generator=torch.manual_seed(length)) for length in (11, 5, 17)]
    save_file({str(number): text for number, text in enumerate(texts)}, tmp_path / "texts.safetensors")
    keys = {"max_steps": 6, "save_strategy": "no", "save_steps": None, **PACKED}
    lab.train("full", **keys)
    full = training_logits(trained[-1], texts)
    lora = load(lab.recipe("lora", **keys, **LORA, lora_dropout=0.1))
    train(lora, fresh=False, show_plan=silent, show=silent)
    adapter = training_logits(trained[-1], texts)
    merged = merge(lora.recipe, out=None, check=False, show=silent).merge.out

    out = tmp_path / "logits.safetensors"
    words = [lab.folder / "full", tiny_llama_dir, lab.folder / "lora", merged, tmp_path / "texts.safetensors", out]
    done = subprocess.run(
        [sys.executable, "-c", LOGITS_WITHOUT_AXO, *map(str, words)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    plain = load_file(out)
    torch.testing.assert_close(full, plain["full"], rtol=0, atol=1e-5)
    torch.testing.assert_close(adapter, plain["adapter"], rtol=0, atol=1e-5)
    torch.testing.assert_close(adapter, plain["merged"], rtol=0, atol=1e-4)
    assert (full - adapter).abs().max() > 0.1, "the two runs should differ"
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert plain["tokens"].tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


# M5


def dtypes(objective: CausalLM) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"trained": set(), "frozen": set()}
    for parameter in objective.parameters():
        found["trained" if parameter.requires_grad else "frozen"].add(str(parameter.dtype).removeprefix("torch."))
    return found


PRECISIONS: dict[str, tuple[dict[str, Any], str, dict[str, set[str]], str, str]] = {
    # keys; what the Plan prints; trained and frozen weights; what a matrix product of a layer gives; what is saved
    "float32": ({}, "weights float32", {"trained": {"float32"}, "frozen": set()}, "float32", "float32"),
    "bf16": ({"bf16": True}, "weights bfloat16", {"trained": {"bfloat16"}, "frozen": set()}, "bfloat16", "bfloat16"),
    "bf16 with float32 weights": (
        {"bf16": True, "master_weights": "float32"},
        "weights float32",
        {"trained": {"float32"}, "frozen": set()},
        "bfloat16",
        "float32",
    ),
    "lora on bf16": (
        {"bf16": True, **LORA},
        "base bfloat16, adapter float32",
        {"trained": {"float32"}, "frozen": {"bfloat16"}},
        "bfloat16",
        "float32",
    ),
    "lora, bf16 full": (
        {"bf16": "full", **LORA},
        "base bfloat16, adapter float32",
        {"trained": {"float32"}, "frozen": {"bfloat16"}},
        "bfloat16",
        "float32",
    ),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_weights_have_the_number_formats_that_the_plan_prints(
    lab: Any, trained: list[CausalLM], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file
    from transformers.models.llama.modeling_llama import LlamaMLP

    keys, printed, weights, computed, saved = PRECISIONS[name]
    products: set[str] = set()
    forward = LlamaMLP.forward

    def recorded(self: LlamaMLP, x: torch.Tensor) -> torch.Tensor:
        result = forward(self, x)
        products.add(str(result.dtype).removeprefix("torch."))
        return result

    monkeypatch.setattr(LlamaMLP, "forward", recorded)
    plans: list[Plan] = []
    recipe = lab.recipe("out", **keys, **PACKED, max_steps=2, save_strategy="no", save_steps=None)
    train(load(recipe), fresh=False, show_plan=plans.append, show=silent)
    assert {one.key: one.effective for one in plans[0].decisions}["master_weights"] == printed
    assert dtypes(trained[-1]) == weights
    assert products == {computed}
    file = "adapter_model.safetensors" if "adapter" in keys else "model.safetensors"
    assert {str(tensor.dtype) for tensor in load_file(lab.folder / "out" / file).values()} == {f"torch.{saved}"}


# L10 and what training mode switches


@pytest.mark.parametrize("name", ["full packed", "lora"])
def test_recomputed_layers_give_the_same_losses(lab: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    calls = 0
    forward = LlamaMLP.forward

    def counted(self: LlamaMLP, x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return forward(self, x)

    monkeypatch.setattr(LlamaMLP, "forward", counted)
    keys = {**RECIPES[name], "max_steps": 5, "save_strategy": "no", "save_steps": None}
    kept = losses_of(lab.train("kept", **keys))
    calls_kept, calls = calls, 0
    recomputed = losses_of(lab.train("recomputed", **keys, gradient_checkpointing=True))
    assert recomputed == pytest.approx(kept, abs=1e-6)
    _, order, _ = order_of(load(lab.recipe("kept", **keys)).recipe)
    packs = [packs for epoch in range(5) for packs in order.steps(epoch)][:5]
    layers, micro_batches = 2, sum(map(len, packs))  # of one row each
    assert calls_kept >= layers * micro_batches
    assert calls - calls_kept == layers * micro_batches


def test_adapter_dropout_is_on_in_training_and_off_in_evaluation(lab: Any) -> None:
    keys = {**LORA, "max_steps": 6, "val_set_size": 6, "eval_strategy": None, "eval_steps": 2, "save_strategy": "no"}
    keys["save_steps"] = None
    without = metrics_of(lab.train("without", **keys))
    loaded = load(lab.recipe("with", **keys, lora_dropout=0.3))
    train(loaded, fresh=False, show_plan=silent, show=silent)
    lines = metrics_of(lab.folder / "with")
    assert lines[0]["loss"] == without[0]["loss"], "the second low-rank matrix starts at zero"
    assert lines[0]["grad_norm"] != without[0]["grad_norm"]
    assert all(abs(a["loss"] - b["loss"]) > 1e-6 for a, b in zip(lines[2:], without[2:], strict=True))
    scores = [evaluate(loaded.recipe, base=False, show=silent).loss for _ in range(2)]
    assert scores[0] == scores[1] == lines[-1]["eval_loss"]
    undropped = load(lab.recipe("undropped", **keys, output_dir=str(lab.folder / "with")))
    assert evaluate(undropped.recipe, base=False, show=silent).loss == scores[0]


def test_dropout_of_the_model_itself_is_on_in_training(lab: Any, tiny_llama_dir: Path, tmp_path: Path) -> None:
    dropping = tmp_path / "dropping"
    shutil.copytree(tiny_llama_dir, dropping)
    config = json.loads((dropping / "config.json").read_text())
    (dropping / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    keys = {"max_steps": 1, "save_strategy": "no", "save_steps": None, **PACKED}
    plain = losses_of(lab.train("plain", **keys))
    for attention in ("sdpa_varlen", "eager"):
        runs_with = losses_of(lab.train(attention, **keys, base_model=str(dropping), attn_implementation=attention))
        assert abs(runs_with[0] - plain[0]) > 1e-5
    dropped = [
        losses_of(lab.train(f"seed {seed}", **keys, base_model=str(dropping), shuffle_merged_datasets=False, seed=seed))
        for seed in (7, 8)
    ]
    assert dropped[0] != dropped[1], "the seed draws what is dropped"


# The same again


def test_the_same_recipe_and_seed_give_the_same_bits_and_another_seed_others(lab: Any) -> None:
    keys = {**LORA, **PACKED, "lora_dropout": 0.2, "max_steps": 6, "save_strategy": "no", "save_steps": None}
    first, again, other = (
        lab.train(name, **keys, seed=seed) for name, seed in (("first", 7), ("again", 7), ("other", 8))
    )
    untimed = [
        [{name: line[name] for name in METRICS[:-2]} for line in metrics_of(folder)] for folder in (first, again, other)
    ]
    assert untimed[0] == untimed[1]
    assert all(one["loss"] != two["loss"] for one, two in zip(untimed[0], untimed[2], strict=True))
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (first, again, other)]
    assert weights[0] == weights[1] != weights[2]
    default = read_recipe(lab.recipe("default", **keys)).recipe.run.seed
    assert default == 42


def test_the_seed_draws_the_adapter_too(lab: Any) -> None:
    keys = {**LORA, "max_steps": 1, "save_strategy": "no", "save_steps": None, "shuffle_merged_datasets": False}
    one, two = (metrics_of(lab.train(str(seed), **keys, seed=seed))[0] for seed in (7, 8))
    assert one["loss"] == two["loss"], "the same samples, and the second low-rank matrix is zero"
    assert one["grad_norm"] != two["grad_norm"]


# L8


def segments(path: Path, trained: Iterator[bool]) -> dict[str, Any]:
    rows = [
        {"segments": [{"text": f"{number} and one ", "label": False}, {"text": f"make {number + 1}", "label": label}]}
        for number, label in enumerate(trained)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"datasets": [{"path": str(path), "type": "input_output"}]}


def test_samples_without_trained_tokens_are_left_out_so_that_every_step_has_some(lab: Any, tmp_path: Path) -> None:
    data = segments(tmp_path / "rows.jsonl", (number % 5 == 0 for number in range(20)))
    keys = {"num_epochs": 3, "save_strategy": "no", "save_steps": None, "gradient_accumulation_steps": 1}
    lines = metrics_of(lab.train("out", **data, **keys, max_lost_tokens=1))
    assert len(lines) == 12, "4 of 20 samples are trained, one a step"
    assert all(line["trained_tokens"] > 0 and np.isfinite(line["loss"]) for line in lines)


def test_data_without_any_trained_token_is_refused_before_a_model_is_loaded(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = segments(tmp_path / "rows.jsonl", (False for _ in range(5)))
    from transformers import AutoModelForCausalLM

    def loaded(*_: Any, **__: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)
    with pytest.raises(DataError, match=r"trained"):
        lab.train("out", **data)


# What a run leaves behind


def test_a_run_leaves_metrics_recipe_plan_and_manifest(lab: Any) -> None:
    from axo.recipe.read import read_recipe

    plans: list[Plan] = []
    path = lab.recipe("out", **LORA, max_steps=3, val_set_size=5, eval_strategy=None, seed=5)
    loaded = read_recipe(path, overrides=["--learning-rate", "3e-3", "--set", "datasets.0.split=train"])
    train(loaded, fresh=False, show_plan=plans.append, show=silent)
    out = lab.folder / "out"
    lines = metrics_of(out)
    assert [list(line) for line in lines[:2]] == [METRICS, METRICS]
    assert list(lines[2]) == [*METRICS, "eval_loss", "eval_perplexity", "eval_token_accuracy"]
    assert all(line["tokens_per_second"] > 0 and line["peak_memory_bytes"] > 2**20 for line in lines)

    kept = read_recipe(out / "recipe.yaml")
    assert kept.recipe == loaded.recipe
    assert kept.recipe.optim.learning_rate == 3e-3
    assert Plan.model_validate_json((out / "plan.json").read_text()) == plans[0]

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 5
    prepared = prepare_run(loaded.recipe)
    assert manifest["prepared"]["train"] == prepared.train.key == prepared.train.path.name
    file = Path(loaded.recipe.data.datasets[0].path)
    assert manifest["data"] == {str(file): xxhash.xxh3_128_hexdigest(file.read_bytes())}
    assert manifest["tokenizer"]
    import transformers

    assert manifest["versions"]["transformers"] == transformers.__version__
    assert manifest["versions"]["torch"] == torch.__version__
    assert {"axo", "peft", "tokenizers", "datasets", "safetensors"} <= set(manifest["versions"])


def test_tensorboard_gets_every_logged_step_and_evaluation(lab: Any) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    keys = {"max_steps": 4, "val_set_size": 5, "eval_strategy": None, "eval_steps": 4, "logging_steps": 2}
    out = lab.train("out", **keys, use_tensorboard=True)
    events = accumulator.EventAccumulator(str(out / "runs"))
    events.Reload()
    lines = metrics_of(out)
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(step, pytest.approx(lines[step - 1]["loss"], rel=1e-6)) for step in (2, 4)]
    (score,) = events.Scalars("eval/loss")
    assert (score.step, score.value) == (4, pytest.approx(lines[3]["eval_loss"], rel=1e-6))


class _Failing:
    name = "failing"

    def __init__(self, section: Any, *, output_dir: Path, recipe: dict[str, Any], step: int) -> None:
        if recipe["wandb_name"] == "at the start":
            raise ConnectionError("no route to host")

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        raise ConnectionError("no route to host")

    def close(self) -> None:
        raise ConnectionError("no route to host")


@pytest.mark.parametrize("when", ["at the start", "at a step"])
def test_a_failing_tracker_does_not_stop_the_run(
    lab: Any, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("axo.train.trackers.wandb.WandB", _Failing)
    monkeypatch.setattr("axo.plan.facts._packages", lambda: {"wandb": "0.22"})
    keys = {"max_steps": 3, "save_strategy": "no", "save_steps": None}
    plain = losses_of(lab.train("plain", **keys))
    with caplog.at_level("WARNING", logger="axo"):
        tracked = losses_of(lab.train("tracked", **keys, wandb_project="p", wandb_name=when))
    assert tracked == plain
    assert [record.message for record in caplog.records if "switched off" in record.message] == [
        {
            "at the start": "wandb cannot be used and is switched off: no route to host",
            "at a step": "failing failed and is switched off: no route to host",
        }[when]
    ]
