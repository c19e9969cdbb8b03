"""What a smoke run makes of keys that name layers, rows, tokens or steps of the real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from axo.model.shrink import shrink_config, text_of_seeing
from axo.model.tiny import make_toy_from_config
from axo.recipe.recipe import recipe_from_flat
from axo.workflows.smoke_keys import ToyKeys, toy_keys

CONFIGS = Path(__file__).parents[1] / "assets" / "configs"
RECIPE: dict[str, Any] = {
    "base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a.jsonl", "type": "alpaca"}],
}  # fmt: skip
LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 64, "lora_alpha": 16, "lora_target_linear": True}


def config(name: str) -> dict[str, Any]:
    return json.loads((CONFIGS / name / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of Llama 3.2 1B, which has 16 layers: two layers, hidden size 128, 2 key-value heads of 16."""
    out = tmp_path_factory.mktemp("toy")
    make_toy_from_config(config("llama-3.2-1b"), out=out, seed=1)
    return out


def for_toy(toy: Path, **keys: Any) -> ToyKeys:
    return toy_keys(recipe_from_flat({**RECIPE, **keys}), real=config("llama-3.2-1b"), toy=toy, num_steps=4)


def test_most_recipes_keep_their_keys(toy: Path) -> None:
    assert for_toy(toy, **LORA, lora_rank_pattern={"q_proj": 128}) == ToyKeys({}, {})


def test_unfrozen_parameters_are_those_at_the_same_depth_of_the_toy(toy: Path) -> None:
    said = for_toy(toy, unfrozen_parameters=["model.layers.1[2-5].mlp.up", "model.norm.weight"])
    assert said.replaced["unfrozen_parameters"] == ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
    said = for_toy(toy, unfrozen_parameters=["model.layers.+.self_attn.q_proj"])
    names = [f"model.layers.{index}.self_attn.q_proj.weight" for index in (0, 1)]
    assert said.replaced["unfrozen_parameters"] == names


def test_rows_are_the_same_part_of_the_toy_s(toy: Path) -> None:
    rows = json.loads((toy / "config.json").read_text())["vocab_size"]
    said = for_toy(toy, unfrozen_parameters=["model.embed_tokens.weight$[64128:]", "model.embed_tokens.weight[5]"])
    assert said.replaced["unfrozen_parameters"] == [
        f"model.embed_tokens.weight$[{rows // 2}:{rows}]", "model.embed_tokens.weight$[0:1]",
    ]  # fmt: skip


def test_patterns_that_fit_nothing_of_the_stand_in_are_left_out(toy: Path) -> None:
    said = for_toy(toy, unfrozen_parameters=["model.vision_tower"])
    assert "unfrozen_parameters" not in said.replaced
    assert "fit no parameter" in said.left_out["unfrozen_parameters"]


@pytest.mark.parametrize(("asked", "expected"), [([0], [0]), ([7, 8], [0, 1]), ([12, 13, 14, 15], [1])])
def test_indices_of_layers_keep_their_depth(toy: Path, asked: list[int], expected: list[int]) -> None:
    assert for_toy(toy, **LORA, peft_layers_to_transform=asked).replaced == {"peft_layers_to_transform": expected}


def test_indices_of_tokens_are_those_that_the_toy_gives_the_new_tokens(toy: Path) -> None:
    rows = json.loads((toy / "config.json").read_text())["vocab_size"]
    keys = {**LORA, "tokens": ["<one>", "<|im_end|>", "<two>"]}
    first = for_toy(toy, **keys, peft_trainable_token_indices=[128256, 128257]).replaced["peft_trainable_token_indices"]
    assert first[1:] == [rows, rows + 1] and first[0] < rows
    named = for_toy(toy, **LORA, peft_trainable_token_indices={"embed_tokens": [7, 9]}).replaced
    assert named == {"peft_trainable_token_indices": {"embed_tokens": [0, 1]}}


def test_ranks_fit_the_toy_where_the_adapter_starts_from_directions_of_the_weights(toy: Path) -> None:
    said = for_toy(toy, **LORA, peft_init_lora_weights="pissa", lora_rank_pattern={"q_proj": 8, "down_proj": 99})
    assert said.replaced == {"lora_r": 32, "lora_rank_pattern": {"q_proj": 8, "down_proj": 32}}


def test_schedules_watchdogs_and_quantisation_of_the_real_run_are_said(toy: Path) -> None:
    said = for_toy(
        toy, **LORA, gptq=True, loss_watchdog_threshold=5.0, lr_scheduler="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 400, "min_lr_ratio": 0.1},
    )  # fmt: skip
    assert set(said.left_out) == {"gptq", "loss_watchdog_threshold"}
    assert said.replaced == {"lr_scheduler_kwargs": {"num_decay_steps": 1, "min_lr_ratio": 0.1}}


def test_evaluations_fall_on_the_saves_where_checkpoints_are_compared(toy: Path) -> None:
    said = for_toy(toy, val_set_size=0.1, evals_per_epoch=4, saves_per_epoch=4, early_stopping_patience=3)
    assert said.replaced == {"eval_steps": 2}
    assert set(said.left_out) == {"evals_per_epoch"}


def test_of_a_model_that_sees_images_its_language_model_is_shrunk() -> None:
    text = text_of_seeing(config("gemma-3-4b"))
    assert text is not None
    assert (text["model_type"], text["num_hidden_layers"], text["torch_dtype"]) == ("gemma3_text", 34, "bfloat16")
    assert shrink_config(text)["layer_types"] == ["sliding_attention", "full_attention"]
    assert text_of_seeing(config("gemma-3-1b")) is None


@pytest.mark.parametrize("name", sorted(folder.name for folder in CONFIGS.iterdir()))
def test_rows_of_a_toy_s_matrices_fill_blocks_of_bitsandbytes(name: str) -> None:
    """64 numbers share a scale: a matrix is a whole number of blocks where both its sides are multiples of 8."""
    small = shrink_config(text_of_seeing(config(name)) or config(name))
    head_dim = small.get("head_dim") or small["hidden_size"] // small["num_attention_heads"]
    sides = [small["hidden_size"], small["intermediate_size"], head_dim * small["num_key_value_heads"]]
    assert [side % 8 for side in sides] == [0, 0, 0]
