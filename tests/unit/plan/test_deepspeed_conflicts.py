"""A contradiction between a recipe and DeepSpeed's configuration is refused by the names of both, with both values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan.test_deepspeed import LORA, refusals

ADAM = {"type": "AdamW", "params": {}}
CONFLICTS: list[tuple[str, Any, str, str]] = [
    ("train_batch_size", 16, "is 16", "x 2 workers of the recipe says 12"),
    ("train_micro_batch_size_per_gpu", 4, "is 4", "micro_batch_size of the recipe says 2"),
    ("gradient_accumulation_steps", 1, "is 1", "gradient_accumulation_steps of the recipe says 3"),
    ("gradient_clipping", 1.0, "is 1", "max_grad_norm of the recipe says 0.5"),
    ("gradient_clipping", 0, "is 0", "max_grad_norm of the recipe says 0.5"),
    ("bf16.enabled", False, "is false", "bf16 of the recipe says true"),
    ("fp16.enabled", True, "is true", "fp16 of the recipe says false"),
    ("optimizer.type", "SGD", "is SGD", "optimizer of the recipe says adamw_torch_fused"),
    ("optimizer.type", "OneBitAdam", "is OneBitAdam", "optimizer of the recipe says adamw_torch_fused"),
    ("optimizer.type", "Muon", "is Muon", "optimizer of the recipe says adamw_torch_fused"),
    ("optimizer", {**ADAM, "params": {"lr": 0.1}}, "is 0.1", "learning_rate of the recipe says 0.001"),
    ("optimizer", {**ADAM, "params": {"betas": [0.9, 0.95]}}, "is [0.9, 0.95]", "adam_beta1 and adam_beta2"),
    ("optimizer", {**ADAM, "params": {"eps": 1e-6}}, "is 1e-06", "adam_epsilon of the recipe says 1e-08"),
    ("optimizer", {**ADAM, "params": {"weight_decay": 0}}, "is 0", "weight_decay of the recipe says 0.1"),
    ("optimizer", {**ADAM, "params": {"adam_w_mode": False}}, "is false", "adamw_torch_fused is with true"),
    ("optimizer", {**ADAM, "params": {"amsgrad": True}}, "is set here alone", ""),
    ("scheduler.type", "WarmupLR", "is WarmupLR", "lr_scheduler of the recipe is cosine"),
    ("scheduler.type", "OneCycle", "is OneCycle", "lr_scheduler of the recipe is cosine"),
    (
        "scheduler", {"type": "WarmupCosineLR", "params": {"total_num_steps": 100}}, "is 100",
        "the schedule is the recipe's",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "says", "against"), CONFLICTS)
def test_a_contradiction_names_both_values(tmp_path: Path, key: str, value: Any, says: str, against: str) -> None:
    (found,) = refusals(tmp_path, _with(key, value)).values()
    assert found.key.startswith(f"deepspeed.{key}")
    assert says in found.message and against in found.message
    assert found.hint


LIMITS: list[tuple[str, Any, str]] = [
    ("zero_optimization.stage", 0, "is 0, expected 1, 2 or 3"),
    ("zero_optimization.stage", 4, "is 4, expected 1, 2 or 3"),
    ("zero_optimization.stage", True, "is true, expected 1, 2 or 3"),
    ("zero_optimization.stage", "2", 'is "2", expected 1, 2 or 3'),
    ("zero_optimization.offload_optimizer", {"device": "nvme", "nvme_path": "/local"}, "CPU only"),
    ("zero_optimization.offload_param", {"device": "nvme"}, "CPU only"),
    ("zero_optimization.cpu_offload", True, "older spelling"),
    ("zero_optimization.zero_quantized_weights", True, "rounds weights"),
    ("zero_optimization.zero_hpz_partition_size", 8, "ZeRO++"),
    ("zero_optimization.mics_shard_size", 4, "MiCS"),
    ("zero_optimization.compute_grad_norm", False, "clipped by their norm"),
    ("zero_optimization.reduce_buckets", 5, "is no key of ZeRO"),
    ("zero_optimization.sub_group_size", "auto", "is auto, and axo has no value for it"),
    ("sparse_attention", {"mode": "fixed"}, "attn_implementation"),
    ("pipeline", {"stages": 2}, "no pipeline"),
    ("curriculum_learning", {"enabled": True}, "order of the data"),
    ("activation_checkpointing", {"partition_activations": True}, "gradient_checkpointing"),
    ("tensor_parallel", {"autotp_size": 2}, "splits no matrices"),
    ("elasticity", {"enabled": True}, "number of workers is fixed"),
    ("wandb", {"enabled": True}, "use_wandb"),
    ("torch_autocast", {"enabled": True}, "bf16 and fp16 of the recipe"),
    ("gradient_allreduce_op", "sum", "mean over ranks"),
    ("check_overflow", False, "must not reach the weights"),
    ("bf16.check_grad_overflow", False, "must not reach the weights"),
    ("bf16.bf16_master_weights_and_grads", True, "updated in float32"),
    ("compile.deepcompile", True, "DeepCompile"),
    ("zero_optimisation", {"stage": 2}, "is no key of DeepSpeed"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "message"), LIMITS)
def test_what_the_engine_cannot_do_is_refused_with_the_reason(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    found = refusals(tmp_path, _with(key, value))
    assert any(message in finding.message for finding in found.values()), found


@pytest.mark.parametrize(
    ("key", "near"),
    [("zero_optimisation", "zero_optimization"), ("train_micro_batch_size", "train_micro_batch_size_per_gpu")],
)
def test_an_unknown_key_is_named_with_a_near_one(tmp_path: Path, key: str, near: str) -> None:
    assert repr(near) in str(refusals(tmp_path, _with(key, 1))[f"deepspeed.{key}"].hint)


def test_all_faults_of_a_file_are_named_at_once_each_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    values = {"train_batch_size": 3, "zero_optimization": {"stage": 7, "overlap": True}, "gradient_clipping": 2}
    path.write_text(json.dumps(values, indent=1))
    found = refusals(tmp_path, str(path))
    assert {key: finding.line for key, finding in found.items()} == {
        "train_batch_size": 2, "zero_optimization.stage": 4, "zero_optimization.overlap": 5, "gradient_clipping": 7,
    }  # fmt: skip
    assert {finding.file for finding in found.values()} == {str(path)}


STAGE_3: list[tuple[str, dict[str, Any]]] = [
    ("peft_use_dora", {**LORA, "peft_use_dora": True}),
    ("peft_init_lora_weights", {**LORA, "peft_init_lora_weights": "pissa"}),
    ("load_in_8bit", {**LORA, "load_in_8bit": True}),
    ("torch_compile", {"torch_compile": True}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "keys"), STAGE_3)
def test_what_reads_whole_weights_is_refused_under_stage_3(tmp_path: Path, key: str, keys: dict[str, Any]) -> None:
    assert "stage 3 splits them" in refusals(tmp_path, "deepspeed_configs/zero3.json", **keys)[key].message


def test_rows_of_unfrozen_parameters_are_refused(tmp_path: Path) -> None:
    found = refusals(tmp_path, "deepspeed_configs/zero1.json", unfrozen_parameters=["model.embed_tokens.weight[0:8]"])
    assert "flat shares" in found["unfrozen_parameters"].message


@pytest.mark.parametrize("optimizer", ["adafactor", "adagrad"])
def test_an_optimizer_of_whole_matrices_or_of_its_own_groups_is_refused(tmp_path: Path, optimizer: str) -> None:
    found = refusals(tmp_path, "deepspeed_configs/zero1.json", optimizer=optimizer)
    assert f"{optimizer} does not run under deepspeed" in found["optimizer"].message


def test_a_gpu_optimizer_is_refused_where_its_state_lies_on_the_cpu(tmp_path: Path) -> None:
    config = "deepspeed_configs/zero3_bf16_cpuoffload_all.json"
    assert "computes on the GPU" in refusals(tmp_path, config, optimizer="adamw_8bit", gpus=2)["optimizer"].message


def test_float16_is_refused_on_a_cpu(tmp_path: Path) -> None:
    assert "on a GPU only" in refusals(tmp_path, "deepspeed_configs/zero1.json", bf16=False, fp16=True)["fp16"].message


def _with(key: str, value: Any) -> dict[str, Any]:
    """A configuration of stage 2 with one more value at a dotted key."""
    config: dict[str, Any] = {"zero_optimization": {"stage": 2}}
    place = config
    *blocks, name = key.split(".")
    for block in blocks:
        place = place.setdefault(block, {})
    place[name] = value
    return config
