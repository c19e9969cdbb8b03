"""Kernels, compiling and recomputation in the Plan: what runs, and why not where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import RecipeError
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.plan import Decision, KernelsPlan, Plan, RecomputePlan
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.support import assess

GPU = Hardware(
    devices=(Device("H100", 80 * 2**30, (9, 0)),), cpu_count=8, packages={"liger-kernel": "0.8.5", "triton": "3.5"}
)
CPU = Hardware(cpu_count=2)
LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 5,
    "num_attention_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
FULL: dict[str, Any] = {
    "base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], "sequence_len": 64,
}  # fmt: skip
LORA: dict[str, Any] = {**FULL, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
LIGER = {"liger_rms_norm": True, "liger_glu_activation": True}


def plan(flat: dict[str, Any], hardware: Hardware = GPU, config: dict[str, Any] | None = LLAMA) -> Plan:
    assert assess(flat).refusals == ()
    return resolve(recipe_from_flat(flat), Facts(hardware, config))


def line(plan: Plan, key: str) -> Decision:
    (found,) = (one for one in plan.decisions if one.key == key)
    return found


@pytest.mark.parametrize(
    ("model_type", "parts"),
    [("llama", ("rms_norm", "swiglu")), ("gemma2", ("rms_norm", "geglu")), (None, ("rms_norm", "swiglu"))],
)
def test_liger_computes_what_is_asked_by_the_names_of_its_own_arguments(model_type: str, parts: tuple[str]) -> None:
    config = None if model_type is None else {**LLAMA, "model_type": model_type}
    asked = plan({**FULL, **LIGER}, config=config)
    assert asked.kernels == KernelsPlan(liger=parts)
    assert not line(asked, "liger_rms_norm").fallback


@pytest.mark.parametrize(
    ("hardware", "model_type", "why"),
    [
        (CPU, "llama", "need a GPU"),
        (Hardware(devices=GPU.devices, cpu_count=8), "llama", "liger-kernel is not installed"),
        (GPU, "gpt2", "no kernels for 'gpt2'"),
    ],
)
def test_where_liger_cannot_compute_transformers_does_and_the_plan_says_why(
    hardware: Hardware, model_type: str, why: str
) -> None:
    asked = plan({**FULL, **LIGER}, hardware, {"model_type": model_type})
    assert asked.kernels.liger == ()
    said = line(asked, "liger_glu_activation")
    assert (said.effective, said.fallback) == ("off: transformers' own code", True)
    assert why in said.why
    with pytest.raises(RecipeError, match="liger_rms_norm: true cannot be had"):
        plan({**FULL, **LIGER, "fallbacks": "refuse"}, hardware, {"model_type": model_type})


@pytest.mark.parametrize("key", ["liger_rope", "liger_cross_entropy", "liger_fused_linear_cross_entropy"])
def test_what_liger_could_only_change_for_the_whole_process_has_no_effect(key: str) -> None:
    assert plan({**FULL, key: True}).kernels == KernelsPlan()
    assert list(assess({**FULL, key: True}).idle) == [key]


def test_feed_forward_layers_with_lora_are_as_they_are_unless_asked() -> None:
    unset = plan(LORA)
    assert not unset.kernels.lora_mlp
    assert "Axolotl switches it on by itself" in line(unset, "lora_mlp_kernel").why
    asked = plan({**LORA, "lora_mlp_kernel": True}, CPU)
    assert asked.kernels.lora_mlp
    assert line(asked, "lora_mlp_kernel").effective == "feed-forward layers keep their input only"
    recomputed = plan({**LORA, "lora_mlp_kernel": True, "gradient_checkpointing": True})
    assert "little is left to save" in line(recomputed, "lora_mlp_kernel").why


@pytest.mark.parametrize(
    ("keys", "config", "why"),
    [
        ({"lora_dropout": 0.1}, LLAMA, "lora_dropout would be drawn anew"),
        ({"peft_use_dora": True}, LLAMA, "DoRA"),
        (
            {"lora_target_linear": None, "lora_target_modules": ["q_proj", "up_proj"]},
            LLAMA,
            "gate_proj, down_proj have",
        ),
        ({"lora_target_linear": None, "lora_target_modules": r".*\.(gate|up)_proj"}, LLAMA, "down_proj has no adapter"),
        (LIGER, LLAMA, "liger_glu_activation computes"),
        ({}, {**LLAMA, "model_type": "phi3", "num_key_value_heads": 2}, "phi3 has no layers of gate_proj"),
    ],
)
def test_layers_that_cannot_be_computed_so_are_left_alone(keys: dict[str, Any], config: Any, why: str) -> None:
    flat = {key: value for key, value in {**LORA, "lora_mlp_kernel": True, **keys}.items() if value is not None}
    asked = plan(flat, config=config)
    assert not asked.kernels.lora_mlp
    said = line(asked, "lora_mlp_kernel")
    assert said.fallback
    assert why in said.why


def test_targets_by_name_and_by_expression_are_understood() -> None:
    for targets in (["gate_proj", "up_proj", "mlp.down_proj"], r".*\.mlp\.\w+_proj", "all-linear", ["all-linear"]):
        flat = {**LORA, "lora_target_linear": False, "lora_target_modules": targets, "lora_mlp_kernel": True}
        assert plan(flat).kernels.lora_mlp, targets


def test_layers_are_compiled_with_the_arguments_of_torch_compile() -> None:
    keys = {"torch_compile": True, "torch_compile_options": {"shape_padding": True}}
    asked = plan({**FULL, **keys}, CPU)
    assert asked.kernels.compile
    assert asked.kernels.compile_settings == {"backend": "inductor", "options": {"shape_padding": True}}
    assert line(asked, "torch_compile").effective == "each decoder layer"
    other = plan({**FULL, "torch_compile": True, "torch_compile_backend": "aot_eager", "torch_compile_mode": "default"})
    assert other.kernels.compile_settings == {"backend": "aot_eager", "mode": "default"}


@pytest.mark.parametrize(
    ("keys", "hardware", "why", "fallback"),
    [
        ({"torch_compile": "auto"}, CPU, "only on a GPU", False),
        ({"torch_compile": True}, Hardware(devices=GPU.devices, cpu_count=8), "triton is not installed", True),
        (
            {"torch_compile": True, "gradient_checkpointing": True, "selective_checkpointing": True},
            GPU,
            "selective",
            True,
        ),
    ],
)
def test_where_nothing_is_compiled_the_plan_says_why(
    keys: dict[str, Any], hardware: Hardware, why: str, fallback: bool
) -> None:
    asked = plan({**FULL, **keys}, hardware)
    assert asked.kernels == KernelsPlan()
    said = line(asked, "torch_compile")
    assert (said.effective, said.fallback) == ("off", fallback)
    assert why in said.why


def test_modes_that_record_cuda_graphs_are_refused() -> None:
    for mode in ("reduce-overhead", "max-autotune"):
        (finding,) = assess({**FULL, "torch_compile": True, "torch_compile_mode": mode}).refusals
        assert "CUDA graphs" in finding.message


def test_layers_are_recomputed_as_often_as_asked() -> None:
    assert plan(FULL).recompute == RecomputePlan()
    assert plan({**FULL, "gradient_checkpointing": True}).recompute == RecomputePlan(every=1)
    third = plan({**FULL, "gradient_checkpointing": True, "gradient_checkpointing_every": 3})
    assert third.recompute == RecomputePlan(every=3)
    said = line(third, "gradient_checkpointing_every").effective
    assert said == "each third layer is recomputed, the first of them: 2 of 5"


def test_activations_are_held_in_cpu_memory_where_they_are_not_there_anyway() -> None:
    for value in (True, "legacy", "hidden_states"):
        keys = {**FULL, "gradient_checkpointing": True, "activation_offloading": value}
        assert plan(keys).recompute == RecomputePlan(every=1, offload=True)
        here = plan(keys, CPU)
        assert here.recompute == RecomputePlan(every=1)
        said = line(here, "activation_offloading")
        assert (said.effective, said.fallback) == ("off", False)
        assert "there is no GPU" in said.why
    (finding,) = assess({**FULL, "activation_offloading": "disk"}).refusals
    assert "a disk is slower" in finding.message


@pytest.mark.parametrize(
    ("asked", "keep", "nothing_in"),
    [
        (True, ("attention",), ("sliding_attention", "chunked_attention")),
        ({"save_sliding_window": True}, ("attention",), ()),
        ({"save": ["aten::mm"], "recompute_layer_types": ["full_attention"]}, ("aten::mm",), ("full_attention",)),
    ],
)
def test_results_of_operators_are_kept_as_asked(asked: Any, keep: tuple[str], nothing_in: tuple[str]) -> None:
    made = plan({**FULL, "gradient_checkpointing": True, "selective_checkpointing": asked})
    assert made.recompute == RecomputePlan(every=1, keep=keep, keep_nothing_in=nothing_in)
    assert not line(made, "selective_checkpointing").fallback


@pytest.mark.parametrize(
    ("keys", "config", "why"),
    [
        ({}, {**LLAMA, "attention_dropout": 0.1}, "attention has dropout"),
        ({"attn_implementation": "eager"}, LLAMA, "none of which is attention"),
    ],
)
def test_where_keeping_would_be_wrong_layers_are_recomputed_whole(keys: dict[str, Any], config: Any, why: str) -> None:
    made = plan({**FULL, "gradient_checkpointing": True, "selective_checkpointing": True, **keys}, config=config)
    assert made.recompute == RecomputePlan(every=1)
    said = line(made, "selective_checkpointing")
    assert said.fallback
    assert why in said.why


def test_the_old_name_of_a_kernel_has_a_line_of_its_own_and_asks_for_it_once() -> None:
    both = {**FULL, "liger_swiglu": True, "liger_glu_activation": True}
    assert plan(both).kernels == plan({**FULL, "liger_swiglu": True}).kernels == KernelsPlan(liger=("swiglu",))
    assert line(plan(both, CPU), "liger_swiglu").effective == "off: transformers' own code"
    assert line(plan(both, CPU), "liger_swiglu").fallback
