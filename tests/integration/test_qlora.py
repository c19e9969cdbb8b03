"""Runs on bases in 4 and 8 bits: against a plain loop, resumed, evaluated in between, reloaded, on two processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from axo.errors import Stopped
from axo.recipe.read import read_recipe
from axo.train.hooks.metrics_file import MetricsFile
from axo.train.orders import open_prepared
from axo.workflows.evaluate import evaluate
from axo.workflows.inference import load as load_for_answers
from axo.workflows.prepare import prepare_run

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

pytest.importorskip("bitsandbytes")

LORA: dict[str, Any] = {"lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
BASES: dict[str, dict[str, Any]] = {
    "4 bits": {**LORA, "adapter": "qlora", "load_in_4bit": True},
    "8 bits": {**LORA, "adapter": "lora", "load_in_8bit": True},
}
NARROW = {**BASES, "4 bits, bfloat16": {**BASES["4 bits"], "bf16": True}}
BUSY: dict[str, Any] = {"sample_packing": True, "gradient_checkpointing": True, "lora_dropout": 0.1}
NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype="float32",
)
INT8 = BitsAndBytesConfig(load_in_8bit=True)


def losses(runs: Runs, folder: Path) -> list[float]:
    return [line["loss"] for line in runs.metrics(folder)]


@pytest.mark.parametrize("base", BASES)
def test_ten_steps_are_those_of_a_plain_loop_over_peft_and_transformers(
    runs: Runs, base: str, tiny_llama_dir: Path
) -> None:
    keys = {
        **BASES[base],
        "max_steps": 10,
        "num_epochs": None,
        "save_steps": 1,
        "weight_decay": 0.1,
        "save_total_limit": 20,
    }
    recipe = runs.recipe("out", **keys, optimizer="adamw_torch")
    out = runs.train("out", **keys, optimizer="adamw_torch")
    found = runs.metrics(out)

    config = NF4 if base == "4 bits" else INT8
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32, quantization_config=config)
    # The warmup's first step moves nothing, so the first checkpoint holds the adapter that training started from.
    model = PeftModel.from_pretrained(model, str(out / "checkpoint-1"), is_trainable=True).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], weight_decay=0.1)
    expected: list[float] = []
    for samples, line in zip(steps_of(recipe), found, strict=True):
        tokens = sum(len(sample) - 1 for sample in samples)
        total = 0.0
        for sample in samples:
            loss = model(input_ids=sample[None], labels=sample[None], num_items_in_batch=tokens).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = line["lr"]
        optimizer.step()
        optimizer.zero_grad()
        expected.append(total)
    assert [line["loss"] for line in found] == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < expected[1] - 0.3, "something should have been learned"


def steps_of(recipe: Path) -> list[list[torch.Tensor]]:
    """Token ids of the samples of each step, as plain `datasets` opens them."""
    loaded = read_recipe(recipe).recipe
    prepared = prepare_run(loaded, show=lambda line: None)
    assert prepared.train is not None
    order = open_prepared(
        prepared.train.path, None, data=loaded.data, section=loaded.batch, batch=prepared.plan.batch,
        seed=loaded.run.seed,
    ).train_order  # fmt: skip
    samples: Any = datasets.load_from_disk(str(prepared.train.path)).with_format(None)
    packs = [step for epoch in range(2) for step in order.steps(epoch)][:10]
    return [[torch.tensor(samples[int(index)]["input_ids"]) for (index,) in step] for step in packs]


@pytest.mark.parametrize(
    "base", [pytest.param(base, marks=() if base == "4 bits" else pytest.mark.slow) for base in NARROW]
)
def test_a_stopped_run_goes_on_bit_by_bit(runs: Runs, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {**NARROW[base], **BUSY, "num_epochs": 4}
    undisturbed = runs.train("undisturbed", **keys)
    last = runs.steps(undisturbed)
    trained = stopped_and_resumed(runs, keys, monkeypatch)
    stopped = runs.folder / "stopped"
    assert runs.metrics(stopped) == runs.metrics(undisturbed)
    saved = 2 * (last // 2)  # every second step
    assert runs.state(stopped, saved) == runs.state(undisturbed, saved)
    assert trained == runs.trained(undisturbed)


def stopped_and_resumed(runs: Runs, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The weights of a run that is stopped behind its fourth step and started again."""
    write = MetricsFile.after_step

    def stop_after_3(self: MetricsFile, end: Any) -> None:
        write(self, end)
        if end.metrics.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "after_step", stop_after_3)
        with pytest.raises(Stopped):
            runs.train("stopped", **keys)
    assert runs.steps(runs.folder / "stopped") == 4
    return runs.trained(runs.train("stopped", **keys))


@pytest.mark.parametrize("base", NARROW)
def test_evaluations_between_steps_change_no_later_loss(runs: Runs, base: str) -> None:
    keys = {**NARROW[base], **BUSY, "val_set_size": 4, "num_epochs": 1}
    plain = runs.train("plain", **keys)
    busy = runs.train("busy", **keys, eval_strategy=None, eval_steps=1)
    lines = runs.metrics(busy)
    scores = [{key: line.pop(key) for key in list(line) if key.startswith("eval_")} for line in lines]
    assert all(scores)
    assert lines == runs.metrics(plain)
    assert runs.trained(busy) == runs.trained(plain)


@pytest.mark.parametrize("base", BASES)
def test_a_checkpoint_holds_what_is_trained_and_nothing_of_the_base(runs: Runs, base: str) -> None:
    out = runs.train("out", **BASES[base], num_epochs=1)
    saved = load_file(out / "adapter_model.safetensors")
    assert all(".lora_" in name for name in saved)
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert all(".lora_" in name for name in load_file(out / "checkpoint-2" / "engine" / "weights.safetensors"))


@pytest.mark.parametrize("base", BASES)
def test_what_was_trained_is_scored_and_answers_as_in_plain_peft(
    runs: Runs, base: str, tiny_llama_dir: Path, tiny_tokenizer_dir: Path
) -> None:
    keys = {**BASES[base], "val_set_size": 4, "eval_strategy": None, "eval_steps": 1, "num_epochs": 1}
    out = runs.train("out", **keys)
    recipe = read_recipe(runs.recipe("out", **keys)).recipe
    at_the_end = runs.metrics(out)[-1]["eval_loss"]
    assert evaluate(recipe, base=False, show=lambda line: None).loss == pytest.approx(at_the_end, abs=1e-6)
    assert evaluate(recipe, base=True, show=lambda line: None).loss > at_the_end + 0.1

    config = NF4 if base == "4 bits" else INT8
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32, quantization_config=config)
    layers: list[Any] = [*model.modules()]
    for layer in layers:  # plain bitsandbytes computes an evaluation in bfloat16 on some CPUs
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    peft_model = PeftModel.from_pretrained(model, str(out)).eval()
    trained = load_for_answers(recipe)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected = peft_model(input_ids=ids).logits
        torch.testing.assert_close(trained.model(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)


def test_new_tokens_are_trained_beside_a_base_in_4_bits(runs: Runs, tiny_tokenizer_dir: Path) -> None:
    grown = len(AutoTokenizer.from_pretrained(tiny_tokenizer_dir)) + 2
    keys = {**BASES["4 bits"], "tokens": ["<new>", "<newer>"], "lora_modules_to_save": ["embed_tokens", "lm_head"]}
    out = runs.train("out", **keys, num_epochs=1)
    saved = load_file(out / "adapter_model.safetensors")
    assert saved["base_model.model.model.embed_tokens.weight"].shape == (grown, 32)
    assert saved["base_model.model.lm_head.weight"].dtype == torch.float32
    found = losses(runs, out)
    assert found[-1] < found[1]
    trained = load_for_answers(read_recipe(runs.recipe("out", **keys)).recipe)
    assert trained.model.get_input_embeddings().weight.shape == (grown, 32)


def test_a_checkpoint_that_is_in_4_bits_already_is_trained_as_the_one_it_was_made_from(
    runs: Runs, tiny_llama_dir: Path, tiny_tokenizer_dir: Path
) -> None:
    """Its scales are made from the same float32 weights, so that even the losses are the same."""
    made = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32, quantization_config=NF4)
    made.save_pretrained(runs.folder / "nf4")
    for path in tiny_llama_dir.glob("*token*"):
        (runs.folder / "nf4" / path.name).write_bytes(path.read_bytes())
    config = json.loads((runs.folder / "nf4" / "config.json").read_text())
    assert config["quantization_config"]["load_in_4bit"] is True
    keys = {**BASES["4 bits"], "num_epochs": 1}
    plain = runs.train("plain", **keys)
    stored = runs.train("stored", **keys, base_model=str(runs.folder / "nf4"))
    unsaid = runs.train(
        "unsaid", **{**keys, "adapter": "lora", "load_in_4bit": None}, base_model=str(runs.folder / "nf4")
    )
    assert losses(runs, stored) == losses(runs, plain)
    assert losses(runs, unsaid) == losses(runs, plain)


@pytest.mark.slow
def test_a_mixture_with_packed_experts_learns_and_goes_on_bit_by_bit(
    runs: Runs, tiny_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Qwen3MoeConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, moe_intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    folder = runs.folder / "mixture"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3MoeForCausalLM(config).save_pretrained(folder)
    for path in tiny_tokenizer_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    attention = {"lora_target_linear": None, "lora_target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    keys = {
        **BASES["4 bits"], **BUSY, **attention, "quantize_moe_experts": True,
        "base_model": str(folder), "num_epochs": 4,
    }  # fmt: skip
    undisturbed = runs.train("undisturbed", **keys)
    found = losses(runs, undisturbed)
    assert found[-1] < found[0] - 0.05
    assert stopped_and_resumed(runs, keys, monkeypatch) == runs.trained(undisturbed)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("base", BASES)
def test_two_workers_train_as_one(runs: Runs, base: str) -> None:
    keys = {**BASES[base], "num_epochs": 1, "gradient_checkpointing": True}
    one = runs.train("one", **keys)
    run = runs.start("two", **{**keys, "world_size": 2, "gradient_accumulation_steps": 2})
    assert run.wait() == 0, run.output()
    assert losses(runs, runs.folder / "two") == pytest.approx(losses(runs, one), abs=1e-5)
