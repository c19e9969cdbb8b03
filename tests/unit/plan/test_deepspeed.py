"""DeepSpeed's configuration: found, read, filled in from the recipe; what contradicts the recipe is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import Finding, RecipeError
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.plan import Decision, Plan
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path.name for path in (ROOT / "deepspeed_configs").glob("*.json"))
AXOLOTLS = [
    "zero1.json", "zero1_torch_compile.json", "zero2.json", "zero2_torch_compile.json", "zero3.json", "zero3_bf16.json",
    "zero3_bf16_cpuoffload_all.json", "zero3_bf16_cpuoffload_params.json",
]  # fmt: skip
PACKAGES = {"deepspeed": "0.19.8", "bitsandbytes": "0.50.2", "torchao": "0.18.0"}
LORA: dict[str, Any] = {"adapter": "lora", "lora_target_linear": True, "lora_r": 4, "lora_alpha": 8}
MODEL = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def plan_of(
    folder: Path,
    deepspeed: Any,
    *,
    gpus: int = 0,
    packages: dict[str, str] = PACKAGES,
    config: Any = MODEL,
    **keys: Any,
) -> Plan:
    recipe = folder / "recipe.yaml"
    values = {
        "base_model": "org/model", "datasets": [{"path": "rows.jsonl", "type": "completion"}], "learning_rate": 0.001,
        "micro_batch_size": 2, "gradient_accumulation_steps": 3, "world_size": 2, "bf16": True, "weight_decay": 0.1,
        "max_grad_norm": 0.5, "output_dir": str(folder / "out"), "deepspeed": deepspeed, **keys,
    }  # fmt: skip
    recipe.write_text(yaml.safe_dump(values, sort_keys=False))
    loaded = read_recipe(recipe)
    device = Device("NVIDIA H100 80GB HBM3", 80 * 2**30, (9, 0))
    try:
        return resolve(loaded.recipe, Facts(Hardware(devices=(device,) * gpus, packages=packages), config))
    except RecipeError as error:
        raise RecipeError(loaded.source.locate(error.findings)) from None


def refusals(folder: Path, deepspeed: Any, **keys: Any) -> dict[str, Finding]:
    with pytest.raises(RecipeError) as caught:
        plan_of(folder, deepspeed, **keys)
    return {finding.key: finding for finding in caught.value.findings}


def config_of(plan: Plan) -> dict[str, Any]:
    assert plan.engine.name == "deepspeed" and plan.engine.deepspeed is not None
    return plan.engine.deepspeed.config


def line_of(plan: Plan, key: str) -> Decision:
    (line,) = [line for line in plan.decisions if line.key == key]
    return line


def test_all_of_axolotls_file_names_are_shipped() -> None:
    assert SHIPPED == AXOLOTLS


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_plans_without_an_error(tmp_path: Path, name: str) -> None:
    plan = plan_of(tmp_path, f"deepspeed_configs/{name}")
    config = config_of(plan)
    assert config["train_batch_size"] == 2 * 3 * 2
    assert "auto" not in json.dumps(config)
    assert config["zero_optimization"]["stage"] == int(name[4])
    assert ("offload" in line_of(plan, "deepspeed").effective) is False
    assert config["bf16"] == {"enabled": True} and config.get("fp16", {"enabled": False})["enabled"] is False


def test_auto_is_what_transformers_fills_in(tmp_path: Path) -> None:
    """HfTrainerDeepSpeedConfig, by hand: 64 * 64, 0.9 of it, 10 * 64."""
    config = config_of(plan_of(tmp_path, "deepspeed_configs/zero3.json"))
    zero = config["zero_optimization"]
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (2, 3)
    assert config["gradient_clipping"] == 0.5
    assert (zero["reduce_bucket_size"], zero["stage3_prefetch_bucket_size"]) == (4096, 3686)
    assert zero["stage3_param_persistence_threshold"] == 640


@pytest.mark.parametrize(
    ("config", "width"),
    [({"hidden_sizes": [8, 32]}, 32), ({"n_embd": 16}, 16), ({"text_config": {"hidden_size": 48}}, 48)],
)
def test_the_width_of_a_model_is_found_where_its_config_has_it(tmp_path: Path, config: Any, width: int) -> None:
    zero = config_of(plan_of(tmp_path, "deepspeed_configs/zero3.json", config={"model_type": "llama", **config}))
    assert zero["zero_optimization"]["reduce_bucket_size"] == width * width


def test_without_the_models_config_buckets_are_deepspeeds_own(tmp_path: Path) -> None:
    zero = config_of(plan_of(tmp_path, "deepspeed_configs/zero3.json", config=None))["zero_optimization"]
    assert "reduce_bucket_size" not in zero and "stage3_param_persistence_threshold" not in zero


def test_a_mapping_in_the_recipe_needs_no_more_than_a_stage(tmp_path: Path) -> None:
    config = config_of(plan_of(tmp_path, {"zero_optimization": {"stage": 2}}))
    assert config == {
        "zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 3,
        "train_batch_size": 12, "gradient_clipping": 0.5, "bf16": {"enabled": True},
    }  # fmt: skip


def test_the_plan_says_what_is_split_and_what_is_moved(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "deepspeed_configs/zero3_bf16_cpuoffload_all.json")
    stage = line_of(plan, "deepspeed")
    assert stage.effective == "ZeRO stage 3"
    assert "optimizer state, gradients and parameters are split among 2 workers" in stage.why
    assert "train_batch_size" in stage.why
    assert line_of(plan, "deepspeed.zero_optimization.offload_param").effective == "parameters in CPU memory"
    assert "adamw_torch_fused" in line_of(plan, "deepspeed.zero_optimization.offload_optimizer").why


def test_deepspeed_keeps_float32_masters_and_the_plan_says_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "deepspeed_configs/zero2.json", master_weights="float32")
    assert (plan.precision.model_dtype, plan.precision.autocast_dtype) == ("bfloat16", None)
    assert line_of(plan, "master_weights").effective == "weights bfloat16, masters float32"


def test_adapters_stay_in_float32(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "deepspeed_configs/zero3.json", **LORA)
    precision = plan.precision
    assert (precision.model_dtype, precision.adapter_dtype, precision.autocast_dtype) == (
        "bfloat16", "float32", "bfloat16",
    )  # fmt: skip
    assert line_of(plan, "master_weights").effective == "base bfloat16, adapter float32"


def test_float16_is_deepspeeds_own_mode(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"bf16": False, "fp16": True, "gpus": 2}
    plan = plan_of(tmp_path, "deepspeed_configs/zero2.json", **keys)
    assert (plan.precision.model_dtype, plan.precision.autocast_dtype) == ("float16", None)
    assert plan.precision.loss_scaling and config_of(plan)["fp16"]["enabled"] is True
    adapted = plan_of(tmp_path, "deepspeed_configs/zero2.json", **LORA, **keys)
    assert adapted.precision.adapter_dtype == "float16"
    assert line_of(adapted, "master_weights").effective == "base and adapter float16, masters float32"


def test_a_block_of_the_recipes_own_optimizer_and_schedule_may_stand_there(tmp_path: Path) -> None:
    blocks = {
        "zero_optimization": {"stage": 2},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": [0.9, 0.999], "eps": "auto", "weight_decay": 0.1},
        },
        "scheduler": {
            "type": "WarmupDecayLR",
            "params": {"warmup_min_lr": 0, "warmup_max_lr": "auto", "warmup_num_steps": "auto"},
        },
    }
    plan = plan_of(tmp_path, blocks, lr_scheduler="linear")
    assert line_of(plan, "deepspeed.optimizer").effective == "adamw_torch_fused"
    assert "the recipe's own scheduler runs" in line_of(plan, "deepspeed.scheduler").why
    assert not {"optimizer", "scheduler"} & set(config_of(plan))


def test_a_forced_cpu_optimizer_is_a_fallback(tmp_path: Path) -> None:
    zero = {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    asked = {"zero_optimization": zero, "zero_force_ds_cpu_optimizer": True}
    line = line_of(plan_of(tmp_path, asked), "deepspeed.zero_force_ds_cpu_optimizer")
    assert line.fallback and line.effective == "adamw_torch_fused"
    with pytest.raises(RecipeError, match="fallbacks: refuse"):
        plan_of(tmp_path, asked, fallbacks="refuse")


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path) -> None:
    found = refusals(tmp_path, "deepspeed_configs/zero2.json", packages={})
    assert found["deepspeed"].hint == "`pip install 'axo[deepspeed]'`"


def test_a_file_that_is_not_there_is_refused_at_the_recipes_line(tmp_path: Path) -> None:
    found = refusals(tmp_path, "nowhere.json")["deepspeed"]
    assert "there is no file 'nowhere.json'" in found.message and "deepspeed_configs/zero1.json" in str(found.hint)
    assert found.line == 13


def test_a_file_beside_the_recipe_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"zero_optimization": {"stage": 1}}')
    assert config_of(plan_of(tmp_path, "mine.json"))["zero_optimization"] == {"stage": 1}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('{\n "zero_optimization": {"stage": 2},\n}', 3, "not JSON: "),
        ('{"zero_optimization": {"stage": 2},\n "bf16": {"enabled": tru}}', 2, "not JSON: "),
        ('{"bf16": {"enabled": true},\n\n "bf16": {"enabled": false}}', 3, "is given twice"),
        ("[1]", None, "holds no mapping"),
    ],
)
def test_broken_json_is_refused_with_its_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    (found,) = refusals(tmp_path, str(path)).values()
    assert message in found.message
    if line is not None:
        assert (found.file, found.line) == (str(path), line)
