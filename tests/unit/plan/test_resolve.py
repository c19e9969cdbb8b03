"""The Plan of hand-worked recipes on hand-made machines."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import RecipeError
from axo.plan.facts import DataFacts, Device, Facts, Hardware
from axo.plan.plan import Cadence, Decision, Plan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
CPU = Hardware(cpu_count=8)
H100 = Device("H100", 80 * 2**30, (9, 0))
T4 = Device("T4", 16 * 2**30, (7, 5))
LLAMA = {"model_type": "llama"}


def plan_of(
    keys: dict[str, Any] | None = None, *, hardware: Hardware = CPU, data: DataFacts | None = None, config: Any = LLAMA
) -> Plan:
    flat = {
        "base_model": "x/y",
        "datasets": [{"path": "z/w", "type": "alpaca"}],
        "learning_rate": 1e-3,
        "sequence_len": 64,
        **(keys or {}),
    }
    return resolve(recipe_from_flat(flat), Facts(hardware, config, data))


def decision(plan: Plan, key: str) -> Decision:
    return next(one for one in plan.decisions if one.key == key)


def test_a_cpu_trains_on_one_worker_with_all_threads() -> None:
    engine = plan_of().engine
    assert (engine.name, engine.device, engine.world_size, engine.threads) == ("single", "cpu", 1, 8)


def test_threads_that_the_environment_asks_for_hold_for_each_worker() -> None:
    assert plan_of({"world_size": 2}, hardware=Hardware(cpu_count=8, num_threads=3)).engine.threads == 3


def test_two_gpus_train_on_two_ddp_workers() -> None:
    engine = plan_of(hardware=Hardware(devices=(H100, H100), cpu_count=8)).engine
    assert (engine.name, engine.device, engine.world_size, engine.threads) == ("ddp", "cuda", 2, 4)


def test_more_workers_than_gpus_are_refused() -> None:
    with pytest.raises(RecipeError, match="2 workers for 1 GPU"):
        plan_of({"world_size": 2}, hardware=Hardware(devices=(H100,)))


@pytest.mark.parametrize(
    ("keys", "hardware", "expected"),
    [
        ({}, CPU, ("float32", None)),
        ({"bf16": True}, CPU, ("bfloat16", None)),
        ({}, Hardware(devices=(H100,)), ("bfloat16", None)),
        ({}, Hardware(devices=(T4,)), ("float32", "float16")),
        ({"fp16": False}, Hardware(devices=(T4,)), ("float32", None)),
        ({**LORA}, Hardware(devices=(T4,)), ("float16", "float16")),
        ({"bf16": False}, Hardware(devices=(T4,)), ("float32", None)),
        ({"fp16": True}, CPU, ("float32", "float16")),
        ({"fp16": True, **LORA}, Hardware(devices=(H100,)), ("float16", "float16")),
        ({"fp16": True, "master_weights": "float32"}, CPU, ("float32", "float16")),
        ({"bf16": True, "master_weights": "float32"}, CPU, ("float32", "bfloat16")),
        ({"bf16": True, **LORA}, CPU, ("bfloat16", "bfloat16")),
        ({"bf16": "full", **LORA}, CPU, ("bfloat16", "bfloat16")),
        ({"bf16": False, **LORA}, CPU, ("float32", None)),
    ],
)
def test_storage_and_compute_dtypes(keys: dict[str, Any], hardware: Hardware, expected: tuple[str, str | None]) -> None:
    precision = plan_of(keys, hardware=hardware).precision
    assert (precision.model_dtype, precision.autocast_dtype) == expected
    assert precision.loss_scaling is (expected[1] == "float16")


@pytest.mark.parametrize("bf16", [True, "full", "auto", False])
def test_adapters_are_float32_as_peft_makes_them(bf16: Any) -> None:
    assert plan_of({"bf16": bf16, **LORA}, hardware=Hardware(devices=(H100,))).precision.adapter_dtype == "float32"


@pytest.mark.parametrize(
    ("keys", "packages", "trackers", "fallback"),
    [
        ({"wandb_project": "p"}, {"wandb": "0.22"}, ("wandb",), False),
        ({"wandb_project": "p"}, {}, (), True),
        ({"wandb_project": "p", "use_wandb": False}, {"wandb": "0.22"}, (), False),
        ({"use_tensorboard": True}, {"tensorboard": "2"}, ("tensorboard",), False),
        ({"use_tensorboard": True, "use_wandb": True}, {"wandb": "1"}, ("wandb",), True),
        ({}, {"wandb": "0.22", "tensorboard": "2"}, (), False),
    ],
)
def test_a_tracker_whose_package_is_missing_is_a_fallback(
    keys: dict[str, Any], packages: dict[str, str], trackers: tuple[str, ...], fallback: bool
) -> None:
    plan = plan_of(keys, hardware=Hardware(packages=packages))
    assert plan.trackers == trackers
    assert any(one.fallback for one in plan.decisions) is fallback
    if fallback:
        with pytest.raises(RecipeError, match="is not installed"):
            plan_of({**keys, "fallbacks": "refuse"}, hardware=Hardware(packages=packages))


def test_bf16_weights_with_a_small_learning_rate_bring_a_recommendation() -> None:
    small = decision(plan_of({"bf16": True, "learning_rate": 1e-5}), "master_weights")
    large = decision(plan_of({"bf16": True, "learning_rate": 1e-3}), "master_weights")
    assert "master_weights: float32 is recommended" in small.why
    assert "recommended" not in large.why


@pytest.mark.parametrize(
    ("keys", "hardware", "expected", "fallback"),
    [
        ({}, CPU, "sdpa_varlen", False),
        ({"attn_implementation": "sdpa"}, CPU, "sdpa", False),
        ({"attn_implementation": "flash_attention_2"}, CPU, "sdpa_varlen", True),
        ({"attn_implementation": "flash_attention_2"}, Hardware(devices=(H100,)), "sdpa_varlen", True),
        ({}, Hardware(devices=(H100,), packages={"flash-attn": "2.8"}), "flash_attention_2", False),
        ({"bf16": False}, Hardware(devices=(H100,), packages={"flash-attn": "2.8"}), "sdpa_varlen", False),
    ],
)
def test_attention(keys: dict[str, Any], hardware: Hardware, expected: str, fallback: bool) -> None:
    plan = plan_of(keys, hardware=hardware)
    assert plan.attn_implementation == expected
    assert decision(plan, "attn_implementation").fallback is fallback


def test_fallbacks_can_be_refused() -> None:
    with pytest.raises(RecipeError, match="flash_attention_2 cannot be had"):
        plan_of({"attn_implementation": "flash_attention_2", "fallbacks": "refuse"})


def test_a_model_with_an_unknown_head_gets_the_plain_loss_and_says_so() -> None:
    known, unknown = plan_of(), plan_of(config={"model_type": "brand_new"})
    assert known.loss.chunked and not unknown.loss.chunked
    assert decision(unknown, "chunked_cross_entropy").fallback


@pytest.mark.parametrize(
    ("keys", "accumulation", "rows"),
    [
        ({"micro_batch_size": 2}, 1, 2),
        ({"micro_batch_size": 2, "gradient_accumulation_steps": 3}, 3, 6),
        ({"micro_batch_size": 2, "batch_size": 8}, 4, 8),
        ({"micro_batch_size": 2, "gradient_accumulation_steps": 3, "world_size": 2}, 3, 12),
    ],
)
def test_batch_arithmetic(keys: dict[str, Any], accumulation: int, rows: int) -> None:
    batch = plan_of(keys).batch
    assert (batch.gradient_accumulation_steps, batch.packs_per_step) == (accumulation, rows)


def test_packing_fills_rows_and_packs_evaluation_unless_told_otherwise() -> None:
    packed = plan_of({"sample_packing": True}).batch
    assert (packed.pad_to, packed.eval_sample_packing) == (64, True)
    loose = plan_of({"sample_packing": True, "pad_to_sequence_len": False, "eval_sample_packing": False}).batch
    assert (loose.pad_to, loose.eval_sample_packing) == (None, False)


def test_steps_are_known_once_the_data_is() -> None:
    data = DataFacts(train_samples=100, train_tokens=4000, trained_tokens=900, train_packs=41, eval_samples=5)
    assert plan_of().steps is None
    keys = {"micro_batch_size": 4, "num_epochs": 2, "warmup_ratio": 0.1, "saves_per_epoch": 2, "eval_steps": 0.25}
    steps = plan_of(keys, data=data).steps
    assert steps is not None
    assert (steps.steps_per_epoch, steps.total_steps, steps.warmup_steps) == (11, 22, 2)
    assert steps.save == Cadence(steps=6)
    assert steps.evaluate == Cadence(steps=6)


def test_nothing_is_evaluated_without_evaluation_data() -> None:
    data = DataFacts(train_samples=10, train_tokens=40, trained_tokens=9, train_packs=4, eval_samples=0)
    steps = plan_of({"eval_steps": 1}, data=data).steps
    assert steps is not None and steps.evaluate is None


def test_the_plan_survives_a_round_trip_through_json() -> None:
    plan = plan_of({"sample_packing": True, **LORA})
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
