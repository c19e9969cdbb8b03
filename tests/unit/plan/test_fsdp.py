"""fsdp_config and the sizes in the Plan: what each key becomes, and what is refused with which numbers."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import Finding, RecipeError
from axo.plan.cluster import Cluster
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.plan import Decision, FSDPPlan, Plan, RecomputePlan
from axo.plan.resolve import resolve
from axo.recipe.read import read_recipe
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.support import assess

CPU = Hardware(cpu_count=8, packages={"bitsandbytes": "0.50", "torchao": "0.18"})
GPUS = Hardware(devices=(Device("H100", 80 * 2**30, (9, 0)),) * 4, cpu_count=32, packages=CPU.packages)
LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
QLORA = {**LORA, "adapter": "qlora", "load_in_4bit": True}


def plan(
    config: dict[str, Any] | None = None, *, hardware: Hardware = CPU, cluster: Cluster = Cluster(), **keys: Any
) -> Plan:
    flat = {
        "base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}], "world_size": 4,
        "fsdp_config": {} if config is None else config, **keys,
    }  # fmt: skip
    flat = {key: value for key, value in flat.items() if value is not None}
    assert assess(flat).refusals == ()
    return resolve(recipe_from_flat(flat), Facts(hardware, {"model_type": "llama"}, cluster=cluster))


def settings(config: dict[str, Any] | None = None, **keys: Any) -> FSDPPlan:
    found = plan(config, **keys).engine.fsdp
    assert found is not None
    return found


def line(plan: Plan, key: str) -> Decision:
    (found,) = (one for one in plan.decisions if one.key == key)
    return found


def refused(config: dict[str, Any] | None = None, **keys: Any) -> Finding:
    with pytest.raises(RecipeError) as caught:
        plan(config, **keys)
    (finding,) = caught.value.findings
    return finding


def test_without_a_key_all_workers_share_the_model_and_results_are_those_of_one() -> None:
    assert settings() == FSDPPlan(shard=4)


@pytest.mark.parametrize(
    ("keys", "shard", "replicate"),
    [
        ({"dp_shard_size": 4}, 4, 1),
        ({"dp_shard_size": 2, "dp_replicate_size": 2}, 2, 2),
        ({"dp_shard_size": 2}, 2, 2),
        ({"dp_replicate_size": 2}, 2, 2),
        ({"dp_shard_size": 0, "dp_replicate_size": 1}, 4, 1),
    ],
)
def test_sizes_that_are_unset_are_what_the_others_leave(keys: dict[str, Any], shard: int, replicate: int) -> None:
    found = settings(**keys)
    assert (found.shard, found.replicate) == (shard, replicate)


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        ({"dp_shard_size": 3}, "dp_shard_size", "dp_shard_size: 3 does not give the 4 workers"),
        ({"dp_shard_size": 8}, "dp_shard_size", "dp_shard_size: 8 does not give the 4 workers"),
        (
            {"dp_shard_size": 2, "dp_replicate_size": 1},
            "dp_shard_size",
            "dp_shard_size: 2 x dp_replicate_size: 1 does not give the 4 workers",
        ),
        ({"dp_shard_size": 1}, "dp_shard_size", "leaves each of the 4 workers the whole model"),
        ({"dp_replicate_size": 4}, "dp_replicate_size", "leaves each of the 4 workers the whole model"),
    ],
)
def test_sizes_that_do_not_give_the_workers_are_refused_with_the_numbers(
    keys: dict[str, Any], key: str, said: str
) -> None:
    finding = refused(hardware=GPUS, **{"world_size": None, **keys})
    assert finding.key == key and said in finding.message
    assert finding.hint is not None


def test_hybrid_sharding_is_within_each_node() -> None:
    nodes = Cluster(num_nodes=2, rdzv_endpoint="host:1", found_in="--nnodes")
    found = settings({"sharding_strategy": "HYBRID_SHARD"}, cluster=nodes)
    assert (found.shard, found.replicate, found.reshard_after_forward) == (4, 2, True)
    assert settings({"sharding_strategy": 5}).reshard_after_forward is False


def test_one_worker_holds_the_whole_model_and_the_plan_says_so() -> None:
    alone = plan({"reshard_after_forward": True}, world_size=1)
    assert (alone.engine.name, alone.engine.fsdp) == ("single", None)
    assert line(alone, "dp_shard_size").effective == "not split"
    assert line(alone, "fsdp_config.reshard_after_forward").effective == "no effect"
    assert "there is 1 worker" in refused(world_size=1, dp_shard_size=2).message


@pytest.mark.parametrize("version", [None, 1, 2])
def test_fsdp_2_runs_whatever_version_is_asked_for(version: int | None) -> None:
    asked = plan({"fsdp_version": version}) if version else plan()
    said = line(asked, "fsdp_config.fsdp_version" if version else "fsdp_version")
    assert asked.engine.name == "fsdp" and said.effective == "2"
    assert ("keys of FSDP 1" in said.why) is (version != 2)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"reshard_after_forward": False}, {"reshard_after_forward": False}),
        ({"sharding_strategy": "SHARD_GRAD_OP"}, {"reshard_after_forward": False}),
        ({"sharding_strategy": 1}, {"reshard_after_forward": True}),
        ({"transformer_layer_cls_to_wrap": "A, B"}, {"layer_classes": ("A", "B")}),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 7}, {"min_num_params": 7}),
        ({"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "min_num_params": 7}, {"min_num_params": None}),
        ({"mixed_precision_policy": "no"}, {"param_dtype": None, "reduce_dtype": None}),
        ({"mixed_precision_policy": "bf16"}, {"param_dtype": "bfloat16", "reduce_dtype": "bfloat16"}),
        ({"mixed_precision_policy": "fp32"}, {"param_dtype": "float32", "reduce_dtype": "float32"}),
        ({"offload_params": True}, {"offload": False}),
        ({"cpu_ram_efficient_loading": True}, {"one_reader": True}),
        ({"state_dict_type": "FULL_STATE_DICT"}, {"checkpoint": "full", "final": "full"}),
        ({"state_dict_type": "SHARDED_STATE_DICT"}, {"checkpoint": "sharded", "final": "sharded"}),
        ({"state_dict_type": "LOCAL_STATE_DICT"}, {"checkpoint": "sharded", "final": "sharded"}),
        ({"state_dict_type": "SHARDED_STATE_DICT", "final_state_dict_type": "FULL_STATE_DICT"}, {"final": "full"}),
    ],
)
def test_each_key_becomes_a_setting(config: dict[str, Any], expected: dict[str, Any]) -> None:
    assert settings(config).model_copy(update=expected) == settings(config)


def test_offloading_goes_to_cpu_memory_where_there_is_a_gpu() -> None:
    on_gpu = settings({"offload_params": True, "cpu_offload_pin_memory": False}, hardware=GPUS)
    assert (on_gpu.offload, on_gpu.pin_memory) == (True, False)
    assert "in CPU memory anyway" in line(plan({"offload_params": True}), "fsdp_config.offload_params").why


def test_recomputation_of_units_is_that_of_layers() -> None:
    asked = {"activation_checkpointing": True}
    assert plan(asked).recompute == plan(gradient_checkpointing=True).recompute == RecomputePlan(every=1)
    both = plan(asked, gradient_checkpointing=True)
    assert both.recompute == RecomputePlan(every=1)
    assert "gradient_checkpointing does it" in line(both, "fsdp_config.activation_checkpointing").why


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (QLORA, "quantised weights are packed while they are read"),
        ({**LORA, "lora_model_dir": "a"}, "lora_model_dir"),
        ({**LORA, "peft_init_lora_weights": "pissa"}, "computed from the weights"),
        ({**LORA, "peft_use_dora": True}, "DoRA"),
        ({"model_kwargs": {"use_kernels": False}}, "model_kwargs"),
    ],
)
def test_each_worker_reads_what_cannot_be_built_without_weights(keys: dict[str, Any], why: str) -> None:
    asked = plan({"cpu_ram_efficient_loading": True}, **keys)
    assert asked.engine.fsdp is not None and not asked.engine.fsdp.one_reader
    said = line(asked, "fsdp_config.cpu_ram_efficient_loading")
    assert why in said.why and said.fallback


def test_packed_weights_are_not_gathered_in_another_type() -> None:
    found = settings({"mixed_precision_policy": "bf16"}, bf16=True, **QLORA)
    assert (found.param_dtype, found.reduce_dtype) == (None, "bfloat16")


def test_the_plan_says_which_packed_weights_are_not_split() -> None:
    eight = plan({}, **{**LORA, "load_in_8bit": True})
    assert "weights of 8 bits stay whole" in line(eight, "dp_shard_size").why
    assert "whole" not in line(plan({}, **QLORA), "dp_shard_size").why


def test_an_adapter_is_saved_whole() -> None:
    assert settings({"state_dict_type": "SHARDED_STATE_DICT"}, **LORA).final == "full"


@pytest.mark.parametrize(
    ("config", "keys", "key", "instead"),
    [
        ({}, {"optimizer": "lion_8bit"}, "optimizer", "lion_pytorch"),
        ({}, {"optimizer": "paged_adamw_32bit"}, "optimizer", "adamw_torch_8bit"),
        ({}, {"optimizer": "rmsprop_bnb"}, "optimizer", "rmsprop"),
        ({}, {"optimizer": "adafactor"}, "optimizer", "adamw_torch_8bit"),
        ({}, {"unfrozen_parameters": ["lm_head.weight[3:]"]}, "unfrozen_parameters", "whole parameters"),
        ({"mixed_precision_policy": "fp16"}, {}, "fsdp_config.mixed_precision_policy", "fp16: true"),
        ({"mixed_precision_policy": "bf16"}, {"fp16": True}, "fsdp_config.mixed_precision_policy", "set fp16 here"),
    ],
)
def test_what_cannot_be_split_is_refused_with_what_works(
    config: dict[str, Any], keys: dict[str, Any], key: str, instead: str
) -> None:
    finding = refused(config, **keys)
    assert finding.key == key and instead in (finding.hint or "")


OLD = """
base_model: m
learning_rate: 1.0e-4
datasets: [{path: a, type: alpaca}]
world_size: 2
"""


def test_words_of_the_old_list_are_keys_of_the_block(tmp_path: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(OLD + "fsdp: [hybrid_shard, auto_wrap]\nfsdp_config: {fsdp_offload_params: true}\n")
    config = read_recipe(path).recipe.engines.fsdp_config
    assert config is not None
    assert (config.sharding_strategy, config.auto_wrap_policy) == ("HYBRID_SHARD", "TRANSFORMER_BASED_WRAP")
    assert config.offload_params


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        ("fsdp: [no_shard]", "fsdp", "splits nothing"),
        ("fsdp_config: {sharding_strategy: NO_SHARD}", "fsdp_config.sharding_strategy", "nothing is split"),
        ("fsdp_config: {mixed_precision_policy: fp8}", "fsdp_config.mixed_precision_policy", "8 bits"),
        (
            "fsdp_config: {sharding_strategy: FULL_SHARD, reshard_after_forward: false}",
            "fsdp_config.sharding_strategy",
            "means reshard_after_forward: true",
        ),
        (
            "fsdp_config: {final_state_dict_type: FULL_STATE_DICT}\nfsdp_final_state_dict_type: SHARDED_STATE_DICT",
            "fsdp_final_state_dict_type",
            "fsdp_config.final_state_dict_type is FULL_STATE_DICT",
        ),
    ],
)
def test_what_contradicts_itself_or_splits_nothing_is_refused(tmp_path: Any, keys: str, key: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(OLD + keys + "\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert [finding.key for finding in caught.value.findings] == [key]
    assert said in caught.value.findings[0].message
