"""What `axo explain` says about memory, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.plan.facts import Device, Facts, Hardware
from axo.plan.memory import Split
from axo.plan.memory_plan import memory_lines, split_of
from axo.plan.parameters import count_parameters
from axo.plan.plan import DeepSpeedPlan, FSDPPlan, Plan
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe
from axo.recipe.recipe import Recipe

# embeddings and head of 1000 x 64 each; a layer: q and o 2 x 64 x 64, k and v 2 x 64 x 32, three of 64 x 160, two
# norms of 64: 12,288 + 30,720 + 128 = 43,136; two layers, the last norm: 128,000 + 86,272 + 64 = 214,336 in all.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1000, "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
GPU = Device(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30, compute_capability=(9, 0))
LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 8, "lora_target_modules": ["q_proj"]}
"""8 x (64 + 64) numbers in each of two layers: 2,048."""
KIB = 1024


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    """(recipe, plan, facts) of a recipe on a machine with so many GPUs."""

    def of(*, gpus: int = 1, config: Any = CONFIG, **keys: Any) -> tuple[Recipe, Plan, Facts]:
        path = tmp_path / "recipe.yaml"
        data = [{"path": "rows.jsonl", "type": "alpaca"}]
        path.write_text(yaml.safe_dump({"base_model": "m/m", "datasets": data, "learning_rate": 1e-3, **keys}))
        recipe = read_recipe(path).recipe
        packages = dict.fromkeys(("bitsandbytes", "torchao"), "1.0")
        facts = Facts(Hardware(devices=(GPU,) * gpus, cpu_count=8, packages=packages), config)
        return recipe, resolve(recipe, facts), facts

    return of


def said(recipe: Recipe, plan: Plan, facts: Facts) -> list[str]:
    counts = count_parameters(recipe.adapters, model_config=facts.model_config)
    return list(memory_lines(recipe, plan, facts=facts, counts=counts))


def kib(number: float) -> str:
    return f"{number / KIB:.1f} KiB"


def test_a_run_of_one_worker_says_what_it_holds(planned: Any) -> None:
    """In bfloat16, 2 bytes each and 2 x 2 of AdamW's state."""
    assert said(*planned(bf16=True)) == [
        f"weights {kib(428_672)}, gradients {kib(428_672)}, optimizer state {kib(857_344)}: 1.6 MiB; "
        "activations come on top"
    ]


def test_several_workers_are_told_what_other_engines_would_need(planned: Any) -> None:
    first, others = said(*planned(gpus=2, bf16=True, **LORA))
    base, adapter = 428_672, 2048
    # 1,000 and 160, 64 and 32 rows are all even: half of each
    assert first == (
        f"each of 2 workers: weights {kib(base + 4 * adapter)}, gradients {kib(4 * adapter)}, "
        f"optimizer state {kib(8 * adapter)}: {kib(base + 16 * adapter)}; activations come on top"
    )
    assert others == (
        f"on 2 workers each would hold ddp {kib(base + 16 * adapter)}, fsdp {kib(base / 2 + 8 * adapter)}, "
        f"zero1 {kib(base + 8 * adapter + 6 * adapter)}, zero2 {kib(base + 4 * adapter + 8 * adapter)}, "
        f"zero3 {kib(base / 2 + 10 * adapter)}"
    )


def test_fsdp_says_what_is_gathered_and_what_lies_in_cpu_memory(planned: Any) -> None:
    recipe, plan, facts = planned(gpus=2, bf16=True, master_weights="float32")
    settings = FSDPPlan(shard=2, param_dtype="bfloat16", offload=True)
    plan = plan.model_copy(update={"engine": plan.engine.model_copy(update={"name": "fsdp", "fsdp": settings})})
    assert said(recipe, plan, facts)[:2] == [
        f"each of 2 workers: weights {kib(428_672)}, gradients {kib(428_672)}, optimizer state {kib(857_344)}: "
        "1.6 MiB, 1.6 MiB of it in CPU memory; activations come on top",
        f"while the model computes, up to {kib(428_672)} of weights from other workers more",
    ]


@pytest.mark.parametrize(("reduce_each", "gradients"), [(True, 214_336), (False, 428_672)])
def test_fsdp_sums_gradients_whole_while_it_accumulates_where_they_are_reduced_once(
    planned: Any, reduce_each: bool, gradients: int
) -> None:
    recipe, plan, facts = planned(gpus=2, bf16=True, gradient_accumulation_steps=4)
    settings = FSDPPlan(shard=2, reduce_each=reduce_each)
    plan = plan.model_copy(update={"engine": plan.engine.model_copy(update={"fsdp": settings})})
    assert f"weights {kib(214_336)}, gradients {kib(gradients)}, " in said(recipe, plan, facts)[0]


def test_deepspeed_keeps_float32_weights_beside_its_state(planned: Any) -> None:
    recipe, plan, facts = planned(gpus=2, bf16=True)
    config = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}, "bf16": {"enabled": True}}
    update = {"name": "deepspeed", "deepspeed": DeepSpeedPlan(config=config)}
    plan = plan.model_copy(update={"engine": plan.engine.model_copy(update=update)})
    assert said(recipe, plan, facts)[0] == (
        f"each of 2 workers: weights {kib(428_672)}, gradients {kib(214_336)}, "
        f"optimizer state with float32 weights 1.2 MiB: 1.8 MiB, 1.4 MiB of it in CPU memory; activations come on top"
    )


@pytest.mark.parametrize(
    ("zero", "cpu", "gathered"),
    [
        ({"stage": 1}, set[str](), None),
        ({"stage": 3}, set[str](), 1_000_000_000),
        ({"stage": 3, "stage3_max_live_parameters": 5e8}, set[str](), 500_000_000),
        ({"stage": 3, "offload_param": {"device": "cpu"}}, {"weights"}, 1_000_000_000),
        ({"stage": 3, "offload_param": {"device": "none"}}, set[str](), 1_000_000_000),
        (
            {"stage": 3, "offload_param": {"device": "nvme"}, "offload_optimizer": {"device": "cpu"}},
            {"weights", "gradients", "states"},
            1_000_000_000,
        ),
    ],
)
def test_the_split_is_that_of_deepspeeds_configuration(
    planned: Any, zero: dict[str, Any], cpu: set[str], gathered: int | None
) -> None:
    _, plan, _ = planned(gpus=4, bf16=True)
    update = {"name": "deepspeed", "deepspeed": DeepSpeedPlan(config={"zero_optimization": zero})}
    split = split_of(plan.model_copy(update={"engine": plan.engine.model_copy(update=update)}))
    assert split == Split(
        4 if zero["stage"] == 3 else 1, 4 if zero["stage"] > 1 else 1, 4, "numbers", frozenset(cpu),  # type: ignore[arg-type]
        gathered=gathered,
    )  # fmt: skip


def test_a_base_in_4_bits_is_reckoned_layer_by_layer(planned: Any) -> None:
    """Half a byte for each number of a linear layer, one byte for 64 of them, 4 for 256 such scales; the rest in
    bfloat16."""
    recipe, plan, facts = planned(bf16=True, load_in_4bit=True, **{**LORA, "adapter": "qlora"})
    linear = {(64, 64): 2, (32, 64): 2, (160, 64): 3}
    packed = 2 * sum(
        count * (a * b // 2 + a * b // 64 + 4 * -(-a * b // 64 // 256)) for (a, b), count in linear.items()
    )
    rest = 2 * (128_000 + 5 * 64)
    assert said(recipe, plan, facts)[0].startswith(f"weights {kib(packed + rest + 4 * 2048)}, ")


def test_nothing_is_said_of_a_model_that_is_not_known(planned: Any) -> None:
    recipe, plan, facts = planned(bf16=True)
    assert said(recipe, plan, replace(facts, model_config=None)) == []
    assert said(recipe, plan, replace(facts, model_config={**CONFIG, "model_type": "new"})) == []


def test_an_optimizer_whose_state_is_not_known_is_named(planned: Any) -> None:
    recipe, plan, facts = planned(bf16=True)
    plan = plan.model_copy(update={"optimizer": "lomo"})
    assert said(recipe, plan, facts) == ["not known: how much lomo remembers is not known to axo"]
