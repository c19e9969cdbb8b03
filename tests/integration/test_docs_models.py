"""docs/models.md: its table of what combines is what axo decides, and its pieces of recipes are valid as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import RecipeError
from axo.plan.facts import Device, Hardware
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe
from axo.recipe.support import assess
from axo.workflows.facts import find_facts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
CONFIGS = ROOT / "tests" / "assets" / "configs"
MACHINE = Hardware(
    devices=(Device(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30, compute_capability=(9, 0)),),
    cpu_count=8,
    packages=dict.fromkeys("flash-attn bitsandbytes torchao gptqmodel optimum liger-kernel triton".split(), "1.0"),
)
WHOLE: dict[str, Any] = {
    "base_model": "someone/llama", "datasets": [{"path": "rows.jsonl", "type": "alpaca"}], "learning_rate": 1e-4,
    "sequence_len": 2048, "micro_batch_size": 1, "num_epochs": 1,
}  # fmt: skip
LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": LORA,
    "DoRA": {**LORA, "peft_use_dora": True},
    "4 bits": {**LORA, "adapter": "qlora", "load_in_4bit": True},
    "8 bits": {**LORA, "load_in_8bit": True},
    "GPTQ": {**LORA, "gptq": True},
}
VALUES: dict[str, dict[str, Any]] = {
    "activation_offloading": {"gradient_checkpointing": True, "activation_offloading": True},
    "selective_checkpointing": {"gradient_checkpointing": True, "selective_checkpointing": True},
    "fp16": {"fp16": True, "bf16": False},
    "loraplus_lr_ratio": {"loraplus_lr_ratio": 16},
    "neftune_noise_alpha": {"neftune_noise_alpha": 5},
    "peft_trainable_token_indices": {"peft_trainable_token_indices": [5]},
    "lora_modules_to_save": {"lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "unfrozen_parameters": {"unfrozen_parameters": ["lm_head"]},
}
"""Of keys that are no switch."""


def table() -> Iterator[Any]:
    """Key and cells of each row of the table."""
    lines = PAGE.partition("## What combines with what\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0][1:] == list(METHODS)
    for row in rows[2:]:
        yield pytest.param(re.findall(r"`([^`]+)`", row[0]), row[1:], id=row[0])


@pytest.mark.parametrize(("keys", "cells"), [*table()])
def test_the_table_says_what_axo_decides(keys: list[str], cells: list[str], tmp_path: Path) -> None:
    if keys == ["axo merge-lora"]:
        assert cells == ["-", *["yes"] * (len(cells) - 1)]  # smoke runs of the recipes, and of DoRA, merge
        return
    given: dict[str, Any] = {}
    for key in keys:
        given |= VALUES.get(key) or (yaml.safe_load(key) if ": " in key else {key: True})
    told = [decided({**method, **given}, list(given), tmp_path) for method in METHODS.values()]
    assert told == cells


def decided(keys: dict[str, Any], asked: list[str], folder: Path) -> str:
    config = CONFIGS / ("llama-3.1-8b-gptq" if "gptq" in keys else "llama-3.1-8b")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, "base_model_config": str(config), **keys}))
    try:
        recipe = read_recipe(path).recipe
        plan = resolve(recipe, replace(find_facts(recipe), hardware=MACHINE))
    except RecipeError:
        return "refused"
    return "off" if any(line.fallback and line.key in asked for line in plan.decisions) else "yes"


def pieces() -> Iterator[Any]:
    for found in re.finditer(r"^```yaml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE):
        yield pytest.param(found[1], id=f"line {PAGE.count(chr(10), 0, found.start()) + 1}")


@pytest.mark.parametrize("text", [*pieces()])
def test_a_piece_of_a_recipe_is_valid_as_it_stands(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, **yaml.safe_load(text)}))
    flat = read_recipe(path).flat
    assert not assess(flat).refusals


def test_every_shipped_recipe_is_in_the_list_once() -> None:
    named = re.findall(r"\]\(\.\./(recipes/\w+/[^)]+)\)", PAGE.partition("## What combines")[0])
    shipped = [*(ROOT / "recipes" / "models").glob("*.yaml"), *(ROOT / "recipes" / "techniques").glob("*.yaml")]
    assert sorted(named) == sorted(str(path.relative_to(ROOT)) for path in shipped)
