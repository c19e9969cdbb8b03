"""The Plan of quantised bases: what the recipe asks for, what the checkpoint is, what the machine has."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import RecipeError
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.plan.stored_quantization import stored_quantization
from axo.recipe.recipe import recipe_from_flat

ALL = {"bitsandbytes": "0.50.2", "gptqmodel": "7.6.0", "optimum": "2.3.0"}
CPU = Hardware(cpu_count=8, packages=ALL)
H100 = Hardware(devices=(Device("H100", 80 * 2**30, (9, 0)),), cpu_count=8, packages=ALL)
LLAMA = {"model_type": "llama"}
NF4 = {
    "quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True, "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
}  # fmt: skip
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True, "_load_in_8bit": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}


def plan_of(config: Any = LLAMA, hardware: Hardware = CPU, **keys: Any) -> Plan:
    flat = {
        "base_model": "x/y",
        "datasets": [{"path": "z/w", "type": "alpaca"}],
        "learning_rate": 1e-3,
        "sequence_len": 64,
        **({"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True} if "adapter" in keys else {}),
        **keys,
    }
    return resolve(recipe_from_flat(flat), Facts(hardware, config))


def stored(settings: dict[str, Any]) -> dict[str, Any]:
    return {**LLAMA, "quantization_config": settings}


def lines(plan: Plan) -> dict[str, tuple[str, str, str]]:
    return {one.key: (one.asked, one.effective, one.why) for one in plan.decisions}


def finding(**keys: Any) -> tuple[str, str]:
    with pytest.raises(RecipeError) as caught:
        plan_of(**keys)
    (one,) = caught.value.findings
    return one.key, f"{one.message} / {one.hint}"


def test_a_recipe_without_quantisation_has_none() -> None:
    assert plan_of().quantization.kind is None
    assert plan_of(config=None, adapter="lora").quantization.settings == {}


@pytest.mark.parametrize(
    ("keys", "hardware", "compute"),
    [
        ({}, CPU, "float32"),
        ({}, H100, "bfloat16"),
        ({"bf16": True}, CPU, "bfloat16"),
        ({"bf16": False}, H100, "float32"),
    ],
)
def test_qlora_has_axolotls_settings_and_computes_as_the_plan_does(
    keys: dict[str, Any], hardware: Hardware, compute: str
) -> None:
    plan = plan_of(hardware=hardware, adapter="qlora", load_in_4bit=True, **keys)
    assert plan.quantization.kind == "bnb_4bit"
    assert plan.quantization.settings == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": compute,
        "bnb_4bit_quant_storage": "bfloat16",
    }
    assert lines(plan)["load_in_4bit"] == (
        "true",
        "4 bits (bitsandbytes nf4, scales quantised too)",
        f"linear layers; embeddings, norms, biases and output head stay in {compute}",
    )
    assert lines(plan)["bnb_config_kwargs"][1] == f"products computed in {compute}"
    assert ("on a CPU" in lines(plan)["bnb_config_kwargs"][2]) == (hardware is CPU)


def test_settings_of_the_recipe_replace_the_others() -> None:
    asked = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "bfloat16"}
    plan = plan_of(adapter="lora", load_in_4bit=True, bnb_config_kwargs=asked)
    assert {key: plan.quantization.settings[key] for key in asked} == asked
    assert lines(plan)["load_in_4bit"][1] == "4 bits (bitsandbytes fp4)"
    assert lines(plan)["bnb_config_kwargs"][1:] == (
        "bnb_4bit_quant_type: fp4, bnb_4bit_use_double_quant: false; products computed in bfloat16",
        "as asked; on a CPU 4 bits save memory and cost time: weights are unpacked for every product",
    )


def test_eight_bits_take_a_threshold_and_modules_to_skip_and_leave_the_head_whole() -> None:
    asked = {"llm_int8_threshold": 4, "llm_int8_skip_modules": ["down_proj"]}
    plan = plan_of(adapter="lora", load_in_8bit=True, bnb_config_kwargs=asked)
    assert plan.quantization.kind == "bnb_8bit"
    assert plan.quantization.settings == {
        "load_in_8bit": True, "llm_int8_threshold": 4.0, "llm_int8_skip_modules": ["down_proj", "lm_head"],
    }  # fmt: skip
    assert isinstance(plan.quantization.settings["llm_int8_threshold"], float)  # transformers takes no whole number
    assert "8 bits (bitsandbytes LLM.int8)" in lines(plan)["load_in_8bit"]


@pytest.mark.parametrize(
    ("model_type", "bits", "skipped", "storage"),
    [
        ("falcon_h1", 4, ["out_proj", "lm_head"], "bfloat16"),
        ("falcon_h1", 8, ["out_proj", "lm_head"], None),
        ("jamba", 4, None, "float32"),
        ("jamba", 8, ["mamba", "lm_head"], None),
        ("qwen2_moe", 4, None, "float32"),
    ],
)
def test_layers_that_kernels_read_past_stay_whole(
    model_type: str, bits: int, skipped: list[str] | None, storage: str | None
) -> None:
    keys: dict[str, Any] = {"adapter": "lora", f"load_in_{bits}bit": True}
    settings = plan_of({"model_type": model_type}, **keys).quantization.settings
    assert settings.get("llm_int8_skip_modules") == skipped
    assert settings.get("bnb_4bit_quant_storage") == storage


def test_experts_in_one_tensor_stay_in_16_bits_and_the_plan_says_so() -> None:
    config = {"model_type": "qwen3_moe", "num_experts": 128}
    plan = plan_of(config, H100, adapter="qlora", load_in_4bit=True)
    assert lines(plan)["quantize_moe_experts"][1] == "experts stay in bfloat16"
    assert "quantize_moe_experts" not in lines(plan_of(adapter="qlora", load_in_4bit=True))


def test_experts_are_packed_where_that_is_asked() -> None:
    config = {"model_type": "qwen3_moe", "num_experts": 128}
    keys = {"adapter": "qlora", "load_in_4bit": True, "quantize_moe_experts": True}
    plan = plan_of(config, H100, **keys)
    assert plan.quantization.experts
    assert lines(plan)["quantize_moe_experts"][1] == "experts in 4 bits"
    assert "without gradient_checkpointing" in lines(plan)["quantize_moe_experts"][2]
    recomputed = plan_of(config, H100, **keys, gradient_checkpointing=True)
    assert "without gradient_checkpointing" not in lines(recomputed)["quantize_moe_experts"][2]
    dense = plan_of(**keys)
    assert not dense.quantization.experts
    assert lines(dense)["quantize_moe_experts"] == ("true", "no effect", "this model has no experts")


def test_experts_are_packed_into_4_bits_only_and_cannot_have_adapters_then() -> None:
    config = {"model_type": "qwen3_moe", "num_experts": 128}
    key, message = finding(config=config, adapter="lora", load_in_8bit=True, quantize_moe_experts=True)
    assert key == "quantize_moe_experts"
    assert "4 bits only" in message
    key, message = finding(
        config=config, adapter="qlora", load_in_4bit=True, quantize_moe_experts=True,
        lora_target_parameters=["mlp.experts.down_proj"],
    )  # fmt: skip
    assert key == "quantize_moe_experts"
    assert "lora_target_parameters names nothing" in message


@pytest.mark.parametrize("keys", [{"load_in_4bit": True}, {"load_in_8bit": True}])
def test_without_bitsandbytes_nothing_is_loaded(keys: dict[str, Any]) -> None:
    (key,) = keys
    assert finding(hardware=Hardware(cpu_count=2), adapter="lora", **keys) == (
        key, "needs the package bitsandbytes, not installed here / `pip install 'axo[bitsandbytes]'`",
    )  # fmt: skip


def test_gptq_without_its_packages_is_refused_with_the_command_that_installs_them() -> None:
    bare = Hardware(cpu_count=2, packages={"optimum": "2.3"})
    assert finding(config=stored(GPTQ), hardware=bare, adapter="lora", gptq=True) == (
        "gptq", "needs the package gptqmodel, not installed here / `pip install 'axo[gptq]'`",
    )  # fmt: skip


@pytest.mark.parametrize(("hardware", "kernel"), [(CPU, "torch"), (H100, "auto_trainable")])
@pytest.mark.parametrize("asked", [True, None])
def test_a_gptq_checkpoint_is_trained_with_a_kernel_that_has_gradients(
    hardware: Hardware, kernel: str, asked: bool | None
) -> None:
    plan = plan_of(stored(GPTQ), hardware, adapter="lora", gptq=asked)
    assert (plan.quantization.kind, plan.quantization.settings) == ("gptq", {"bits": 4, "backend": kernel})
    assert lines(plan)["gptq"][1] == f"4 bits (GPTQ, a scale for 128 weights), kernel: {kernel}"


def test_gptq_needs_a_gptq_checkpoint() -> None:
    key, message = finding(adapter="lora", gptq=True)
    assert key == "gptq"
    assert "quant_method: gptq" in message


def test_a_checkpoint_that_is_not_here_yet_is_believed_to_be_gptq() -> None:
    assert plan_of(None, adapter="lora", gptq=True).quantization.kind == "gptq"


@pytest.mark.parametrize("keys", [{"adapter": "qlora", "load_in_4bit": True}, {"adapter": "lora"}])
def test_a_checkpoint_in_4_bits_is_trained_beside_as_it_is(keys: dict[str, Any]) -> None:
    plan = plan_of(stored(NF4), **keys)
    assert plan.quantization.kind == "bnb_4bit"
    assert plan.quantization.settings["bnb_4bit_compute_dtype"] == "float32"  # the Plan's, not the checkpoint's
    asked, effective, why = lines(plan)["load_in_4bit"]
    assert asked == ("true" if "load_in_4bit" in keys else "unset")
    assert effective == "4 bits (bitsandbytes nf4, scales quantised too)"
    assert why.startswith("linear layers, as the checkpoint stores them;")


def test_settings_that_a_quantised_checkpoint_has_otherwise_are_refused() -> None:
    key, message = finding(
        config=stored(NF4), adapter="qlora", load_in_4bit=True, bnb_config_kwargs={"bnb_4bit_quant_type": "fp4"}
    )
    assert key == "bnb_config_kwargs.bnb_4bit_quant_type"
    assert "quantised already with nf4" in message
    same = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    plan = plan_of(stored(NF4), adapter="qlora", load_in_4bit=True, bnb_config_kwargs=same)
    assert plan.quantization.settings["bnb_4bit_compute_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("settings", "keys", "key", "says"),
    [
        (NF4, {"adapter": "lora", "load_in_8bit": True}, "load_in_8bit", "set load_in_4bit: true instead"),
        (INT8, {"adapter": "qlora", "load_in_4bit": True}, "load_in_4bit", "set load_in_8bit: true instead"),
        (NF4, {"adapter": "lora", "gptq": True}, "gptq", "4 bits of bitsandbytes"),
        (GPTQ, {"adapter": "qlora", "load_in_4bit": True}, "load_in_4bit", "set gptq: true with adapter: lora"),
        (GPTQ, {"adapter": "lora", "load_in_8bit": True}, "load_in_8bit", "quantised already (GPTQ)"),
        (NF4, {}, "base_model", "no adapter is trained"),
        (GPTQ, {}, "base_model", "no adapter is trained"),
    ],
)
def test_a_checkpoint_quantised_in_another_way_is_refused_before_it_is_loaded(
    settings: dict[str, Any], keys: dict[str, Any], key: str, says: str
) -> None:
    found, message = finding(config=stored(settings), **keys)
    assert found == key
    assert says in message


@pytest.mark.parametrize("method", ["awq", "fp8", "mxfp4", "compressed-tensors", "torchao", "quanto", "hqq"])
@pytest.mark.parametrize("keys", [{}, {"adapter": "lora"}, {"adapter": "qlora", "load_in_4bit": True}])
def test_weights_stored_in_ways_that_axo_cannot_train_beside_are_refused(method: str, keys: dict[str, Any]) -> None:
    found, message = finding(config=stored({"quant_method": method}), **keys)
    assert found == "base_model"
    assert f"quantised ({method})" in message
    assert "name the unquantised model" in message


def test_the_text_part_of_a_model_that_sees_may_hold_the_quantisation() -> None:
    found = stored_quantization(
        {"model_type": "gemma3", "text_config": {"quantization_config": {"quant_method": "awq"}}}
    )
    assert found is not None
    assert found.method == "awq"


@pytest.mark.parametrize("settings", [{"bits": 4}, ["awq"], "awq"])
def test_a_quantisation_without_a_name_is_refused(settings: Any) -> None:
    found, message = finding(config=stored(settings), adapter="lora")
    assert found == "base_model"
    assert "config.json does not say how" in message
