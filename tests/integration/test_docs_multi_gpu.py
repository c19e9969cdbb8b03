"""Figures of docs/multi-gpu.md and of the recipes for several GPUs are those of the formulas and of the Plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import RecipeError
from axo.plan.communication import Collective, Weight, ddp_step, fsdp_step, sent_bytes, zero_step
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.memory import Held, Optimizer, Split, Tensor, held, strategies, with_masters
from axo.plan.memory_plan import as_stored, split_of, tensors_of
from axo.plan.parameters import count_parameters
from axo.plan.parameters_families import architecture
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe
from tests.integration.test_recipes import CONFIGS, RECIPES, facts_for, load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "multi-gpu.md").read_text(encoding="utf-8")
GB, GIB = 10**9, 2**30
SEVEN = Tensor("model", (7 * GB,), trained=True)
PAPER = Tensor("model", (7_500_000_000,), trained=True)
LLAMA = json.loads((CONFIGS / "llama-3.1-8b" / "config.json").read_text(encoding="utf-8"))


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first row begins so."""
    found = re.search(rf"^\| {re.escape(head)}.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    assert found is not None, head
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def reckoned(stem: str) -> Held:
    path = next(path for path in RECIPES if path.stem == stem)
    loaded = load(path)
    facts = facts_for(path, loaded)
    plan = resolve(loaded.recipe, facts)
    assert facts.model_config is not None
    counts = count_parameters(loaded.recipe.adapters, model_config=facts.model_config)
    tensors = tensors_of(loaded.recipe, plan, model=architecture(facts.model_config), counts=counts)
    return held(as_stored(tensors, plan), split_of(plan), optimizer=Optimizer(plan.optimizer))


def test_the_worked_example_of_7b_is_that_of_the_formulas() -> None:
    for strategy, gpus, narrow, wide, zero in table("strategy | GPUs | everything"):
        ranks = 8 if gpus in ("any", "16") else int(gpus)  # HSDP splits inside a group of 8
        name = {"DDP": "ddp", "FSDP": "fsdp", "HSDP, 8 x 2": "fsdp"}.get(strategy, strategy.lower().replace("-", ""))
        split = strategies(ranks)[name]
        kinds = {narrow: (SEVEN,), wide: (replace(SEVEN, weight_bytes=4),), zero: with_masters((SEVEN,))}
        for cell, tensors in kinds.items():
            if cell != "-":
                assert float(cell) == pytest.approx(held(tensors, split).total / GB, abs=0.0501), (strategy, cell)


def test_the_figures_of_the_paper_are_those_of_the_formulas() -> None:
    said = re.search(
        r"need (\d+) GB each without\s+splitting, ([\d.]+) GB with .*?, ([\d.]+) GB.* and ([\d.]+) GB", PAGE
    )
    assert said is not None
    masters = with_masters((PAPER,))
    splits = [Split(), *(strategies(64)[f"zero{stage}"] for stage in (1, 2, 3))]
    assert [float(one) for one in said.groups()] == [round(held(masters, one).total / GB, 1) for one in splits]


def test_the_table_of_shipped_recipes_is_reckoned() -> None:
    rows = table("recipe | GPUs | weights")
    assert {stem(row[0]) for row in rows} == {path.stem for path in RECIPES if path.parent.name == "multi-gpu"}
    for row in rows:
        one = reckoned(stem(row[0]))
        expected = (one.weights, one.gradients, one.states, one.total, one.gathered, one.total - one.on_device)
        assert row[2:] == [f"{number / GB:.1f}" if number else "-" for number in expected], row[0]


def stem(cell: str) -> str:
    return re.sub(r"\[(.*)\].*", r"\1", cell)


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if path.parent.name == "multi-gpu"], ids=lambda path: path.stem
)
def test_what_a_recipe_says_it_needs_is_what_it_needs(path: Path) -> None:
    head = " ".join(
        line.lstrip("# ") for line in path.read_text(encoding="utf-8").split("\nbase_model")[0].splitlines()
    )
    for gigabytes in re.findall(r"(\d+) GB\s+each", head):
        assert int(gigabytes) == round(reckoned(path.stem).total / GB)


def llama_weights() -> tuple[list[list[Weight]], list[Weight]]:
    """Llama 3.1 8B in bfloat16: units and the rest."""
    units: dict[str, list[Weight]] = {}
    root: list[Weight] = []
    for name, shape in architecture(LLAMA).parameters.items():
        layer = re.search(r"\.layers\.(\d+)\.", name)
        (units.setdefault(layer[1], []) if layer else root).append(Weight(shape, 2, 2))
    assert sum(prod(one.shape) for unit in (*units.values(), root) for one in unit) == 8_030_261_248
    return list(units.values()), root


def test_the_traffic_of_llama_is_that_of_the_formulas() -> None:
    units, root = llama_weights()
    weights = [one for unit in (*units, root) for one in unit]

    def steps(ranks: int, k: int) -> Iterator[list[Collective] | None]:
        yield ddp_step(weights, ranks=ranks)
        yield fsdp_step(units, root, shard=ranks, micro_batches=k, norm_itemsize=2)
        yield fsdp_step(units, root, shard=ranks, reshard_after_forward=False, micro_batches=k, norm_itemsize=2)
        apart = fsdp_step(units, root, shard=8, replicate=ranks // 8, micro_batches=k, norm_itemsize=2)
        yield apart if ranks > 8 else None
        yield from (zero_step(weights, stage=stage, ranks=ranks, micro_batches=k) for stage in (1, 2, 3))

    for workers, *cells in table("workers | DDP"):
        ranks = int(workers.replace(",", ""))
        both = zip(steps(ranks, 1), steps(ranks, 4), strict=True)
        said = [
            "-" if one is None or four is None else f"{sent_bytes(one) / GIB:.1f} / {sent_bytes(four) / GIB:.1f}"
            for one, four in both
        ]
        assert cells == said, workers


STRATEGIES: dict[str, dict[str, Any]] = {
    "DDP": {},
    "FSDP": {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}},
    "ZeRO-1, 2": {"deepspeed": {"zero_optimization": {"stage": 2}}},
    "ZeRO-3": {"deepspeed": {"zero_optimization": {"stage": 3}}},
}
LORA = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "all weights": {},
    "`unfrozen_parameters`": {"unfrozen_parameters": ["lm_head"]},
    "`unfrozen_parameters` with rows": {"unfrozen_parameters": ["model.embed_tokens.weight$[128000:]"]},
    "`adapter: lora`": LORA,
    "`load_in_4bit: true` (QLoRA)": {**LORA, "load_in_4bit": True},
    "`load_in_8bit: true`": {**LORA, "load_in_8bit": True},
    "`peft_use_dora: true`": {**LORA, "peft_use_dora": True},
    "`peft_init_lora_weights: pissa`": {**LORA, "peft_init_lora_weights": "pissa"},
    "`peft_trainable_token_indices`": {**LORA, "peft_trainable_token_indices": [128000]},
    "`lora_modules_to_save`": {**LORA, "lora_target_linear": None, "lora_target_modules": ["q_proj"],
                               "lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "`lora_mlp_kernel: true`": {**LORA, "lora_mlp_kernel": True},
    "`master_weights: float32`": {"master_weights": "float32"},
    "`fp16: true`": {"fp16": True, "bf16": None},
    "`gradient_checkpointing: true`": {"gradient_checkpointing": True},
    "`activation_offloading: true`": {"gradient_checkpointing": True, "activation_offloading": True},
    "`torch_compile: true`": {"torch_compile": True},
    "`sample_packing: true`": {"sample_packing": True},
    "`optimizer: adamw_bnb_8bit`": {"optimizer": "adamw_bnb_8bit"},
    "`optimizer: adamw_torch_8bit`": {"optimizer": "adamw_torch_8bit"},
    "`optimizer: muon`": {"optimizer": "muon"},
    "`optimizer: adafactor`": {"optimizer": "adafactor"},
    "`optimizer: lion_pytorch`": {"optimizer": "lion_pytorch"},
}  # fmt: skip


def cell(technique: str, strategy: str, *, folder: Path) -> str:
    """What axo decides for a Llama 3.1 8B on 8 GPUs of a machine that has every package."""
    keys = {
        "base_model": "m/m", "datasets": [{"path": "x.jsonl", "type": "alpaca"}], "learning_rate": 1e-4, "bf16": True,
        **TECHNIQUES[technique], **STRATEGIES[strategy],
    }  # fmt: skip
    device = Device(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * GIB, compute_capability=(9, 0))
    names = "flash-attn bitsandbytes torchao gptqmodel optimum liger-kernel triton deepspeed".split()
    hardware = Hardware(devices=(device,) * 8, cpu_count=8, packages=dict.fromkeys(names, "1.0"))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}))
    try:
        plan = resolve(read_recipe(path).recipe, Facts(hardware, LLAMA))
    except RecipeError:
        return "refused"
    return "off" if any(one.fallback for one in plan.decisions) else "yes"


def test_the_table_of_what_combines_is_what_axo_decides(tmp_path: Path) -> None:
    expected = [
        [technique, *(cell(technique, strategy, folder=tmp_path) for strategy in STRATEGIES)]
        for technique in TECHNIQUES
    ]
    assert table("technique | DDP | FSDP") == expected
