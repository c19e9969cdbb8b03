"""Whole runs of what is trained beside plain LoRA: resumed bit by bit, saved for others, gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from axo.errors import CheckpointError, RecipeError
from axo.recipe.read import read_recipe

if TYPE_CHECKING:
    from tests.integration.conftest import Runs

LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_modules": ["q_proj", "v_proj"]}
PACKED = {"sample_packing": True, "gradient_accumulation_steps": 2}
CASES: dict[str, dict[str, Any]] = {
    "dora": {**LORA, "peft_use_dora": True, "lora_dropout": 0.1},
    "pissa": {**LORA, "peft_init_lora_weights": "pissa_niter_4", **PACKED},
    "patterns": {**LORA, "peft_use_rslora": True, "lora_rank_pattern": {"layers.1.self_attn.v_proj": 2},
                 "lora_alpha_pattern": {"q_proj": 5}, "peft_init_lora_weights": "gaussian"},
    "noise": {**LORA, "neftune_noise_alpha": 5, **PACKED},
    "noise, all weights": {"neftune_noise_alpha": 5, "gradient_checkpointing": True},
    "rows": {"unfrozen_parameters": ["^model.embed_tokens.weight$[:100]", "model.layers.1.mlp.+_proj"],
             "weight_decay": 0.1},
    "new tokens": {**LORA, "tokens": ["<a>", "<b>"], "resize_token_embeddings_to_32x": True,
                   "peft_trainable_token_indices": {"embed_tokens": [411, 412], "lm_head": [411, 412]}},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(runs: Runs, case: str) -> None:
    keys = {**CASES[case], "max_steps": 4, "save_total_limit": 5}
    whole = runs.train("whole", **keys)
    rest = runs.train("rest", **keys, resume_from_checkpoint=str(whole / "checkpoint-2"))
    assert runs.state(rest, 4) == runs.state(whole, 4)
    assert runs.trained(rest) == runs.trained(whole)
    assert runs.metrics(rest) == runs.metrics(whole)[2:]
    if "adapter" in keys:
        assert (rest / "adapter_config.json").read_text() == (whole / "adapter_config.json").read_text()


def test_an_evaluation_leaves_the_noise_of_later_steps_as_it_is(runs: Runs) -> None:
    keys = {**LORA, "neftune_noise_alpha": 5, "max_steps": 4, "val_set_size": 4, "eval_strategy": None}
    often = runs.metrics(runs.train("often", **keys, eval_steps=1))
    rarely = runs.metrics(runs.train("rarely", **keys, eval_steps=4))
    assert [line["loss"] for line in often] == [line["loss"] for line in rarely]
    assert often[-1]["eval_loss"] == rarely[-1]["eval_loss"]
    keys.pop("neftune_noise_alpha")
    quiet = runs.metrics(runs.train("quiet", **keys, eval_steps=4))
    assert quiet[0]["loss"] != rarely[0]["loss"]


def test_rows_that_are_not_named_are_those_of_the_base(runs: Runs, tiny_llama_dir: Path) -> None:
    trained = load_file(runs.train("out", **CASES["rows"], max_steps=3, learning_rate=0.1) / "model.safetensors")
    base = load_file(tiny_llama_dir / "model.safetensors")
    name = "model.embed_tokens.weight"
    assert torch.equal(trained[name][100:], base[name][100:])
    assert not torch.equal(trained[name][:100], base[name][:100])
    moved = {name for name in base if not torch.equal(trained[name], base[name])}
    assert moved == {name, *(f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))}


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_that_began_as_a_part_of_the_weights_is_one_for_the_unchanged_base(runs: Runs, init: str) -> None:
    keys = {**LORA, "peft_init_lora_weights": init, "max_steps": 4, "val_set_size": 6, "eval_strategy": None}
    out = runs.train("out", **keys, eval_steps=4)
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)
    expected = runs.metrics(out)[-1]["eval_loss"]
    assert evaluated(runs, "out") == pytest.approx(expected, abs=1e-5)


def evaluated(runs: Runs, name: str) -> float:
    """The loss that `axo evaluate` finds."""
    from axo.workflows.evaluate import evaluate

    return evaluate(read_recipe(runs.folder / f"{name}.yaml").recipe, base=False, show=lambda line: None).loss


@pytest.mark.parametrize("tied", [False, True])
def test_new_tokens_have_the_same_rows_in_training_evaluation_and_plain_peft(
    runs: Runs, tmp_path: Path, tiny_llama_dir: Path, tied: bool
) -> None:
    base = tmp_path / "base"
    config = AutoConfig.from_pretrained(tiny_llama_dir, tie_word_embeddings=tied)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_llama_dir).save_pretrained(base)
    indices: Any = [411, 412] if tied else {"embed_tokens": [411, 412], "lm_head": [411, 412]}
    keys = {**CASES["new tokens"], "peft_trainable_token_indices": indices, "base_model": str(base)}
    out = runs.train("out", **keys, max_steps=4, val_set_size=6, eval_strategy=None, eval_steps=4)
    assert evaluated(runs, "out") == pytest.approx(runs.metrics(out)[-1]["eval_loss"], abs=1e-6)
    rows = load_file(out / "adapter_model.safetensors")
    delta = rows["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    assert delta.shape == (2, 32)
    assert ("base_model.model.lm_head.token_adapter.trainable_tokens_delta" in rows) != tied
    grown = AutoModelForCausalLM.from_pretrained(base)
    grown.resize_token_embeddings(416)
    plain = PeftModel.from_pretrained(grown, str(out)).merge_and_unload()
    assert torch.equal(plain.model.embed_tokens.weight[411:413], delta)
    assert (plain.lm_head.weight is plain.model.embed_tokens.weight) == tied


def test_training_goes_on_from_a_trained_adapter(runs: Runs) -> None:
    keys = {**LORA, "max_steps": 3, "lr_scheduler": "constant", "warmup_steps": 0}
    first = runs.train("first", **keys)
    second = runs.train("second", **keys, lora_model_dir=str(first))
    start = load_file(first / "adapter_model.safetensors")
    end = load_file(second / "adapter_model.safetensors")
    assert start.keys() == end.keys() and all(not torch.equal(start[name], end[name]) for name in start)
    losses = [line["loss"] for line in runs.metrics(first) + runs.metrics(second)]
    assert losses[3] < losses[0]  # the same rows, in the same order
    from axo.workflows.trained import trained_folder

    assert trained_folder(read_recipe(runs.folder / "second.yaml").recipe) == second
    assert trained_folder(read_recipe(runs.recipe("third", **LORA, lora_model_dir=str(first))).recipe) == first


def test_the_content_of_the_adapter_is_part_of_the_runs_identity(runs: Runs) -> None:
    keys = {**LORA, "max_steps": 2}
    first = runs.train("first", **keys)
    runs.train("second", **keys, lora_model_dir=str(first))
    weights = first / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="adapter_weights"):
        runs.train("second", **keys, lora_model_dir=str(first))


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ({"lora_r": 8, "lora_alpha": 16}, ["lora_r", "lora_alpha"]),
        ({"peft_use_rslora": True, "peft_use_dora": True}, ["peft_use_rslora", "peft_use_dora"]),
        ({"lora_rank_pattern": {"q_proj": 2}}, ["lora_rank_pattern"]),
        ({"peft_init_lora_weights": "pissa"}, ["peft_init_lora_weights"]),
    ],
)
def test_an_adapter_of_another_kind_is_refused_before_training(runs: Runs, keys: dict[str, Any], at: list[str]) -> None:
    first = runs.train("first", **LORA, max_steps=1)
    with pytest.raises(RecipeError) as caught:
        runs.train("second", **{**LORA, **keys}, max_steps=1, lora_model_dir=str(first))
    assert [finding.key for finding in caught.value.findings] == at


def test_an_adapter_on_other_modules_is_refused_with_their_names(runs: Runs) -> None:
    first = runs.train("first", **LORA, max_steps=1)
    with pytest.raises(CheckpointError, match=r"cannot go on from .*k_proj.*missing"):
        runs.train(
            "second", **{**LORA, "lora_target_modules": ["q_proj", "v_proj", "k_proj"]}, lora_model_dir=str(first)
        )
    (first / "adapter_model.safetensors").unlink()
    with pytest.raises(RecipeError, match="no whole adapter"):
        runs.train("third", **LORA, lora_model_dir=str(first))


def test_the_table_of_what_is_trained_opens_the_log(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    from axo.log import LOG

    LOG.propagate = True
    with caplog.at_level("INFO", logger="axo"):
        runs.train("out", **LORA, max_steps=1)
    (text,) = [record.getMessage() for record in caplog.records if "training " in record.getMessage()]
    lines = text.splitlines()
    assert lines[0].startswith("training 896 of ")  # 2 layers x (4 x (32 + 32) + 4 x (32 + 16))
    assert "  model.layers.{0-1}.self_attn.q_proj.lora_A (4, 32) float32 x2" in lines
    assert "  model.layers.{0-1}.self_attn.v_proj.lora_B (16, 4) float32 x2" in lines
    assert len(lines) == 5
