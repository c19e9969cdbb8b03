"""Keys of data, batches, engines, runs, tracking, inference and extensions take what Axolotl's documents and examples
write there, and nothing that cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection
from axo.recipe.documentation import sentence
from axo.recipe.engines import EngineSection
from axo.recipe.extensions import ExtensionSection
from axo.recipe.hatchery import Hatchery
from axo.recipe.inference import InferenceSection
from axo.recipe.recipe import Recipe, build
from axo.recipe.rewrite import rewrite
from axo.recipe.run import RunSection
from axo.recipe.section import Section, nested
from axo.recipe.support import assess
from axo.recipe.tracking import TrackingSection

SECTIONS = (
    DataSection,
    BatchSection,
    EngineSection,
    RunSection,
    TrackingSection,
    InferenceSection,
    ExtensionSection,
)

# fmt: off
SWITCHES = """
datasets.allow_custom_code datasets.trust_remote_code datasets.split_thinking datasets.drop_system_message
datasets.train_on_last_step_only expect.untrained
hf_use_auth_token skip_prepare_dataset dataset_keep_in_memory remove_unused_columns dataset_exact_deduplication
train_on_inputs shuffle_merged_datasets shuffle_before_merging_datasets streaming pretrain_multipack_attn
pretraining_sample_concatenation use_pose
auto_find_batch_size sample_packing eval_sample_packing sample_packing_sequentially multipack_real_batches
pad_to_sequence_len group_by_length curriculum_sampling dataloader_pin_memory dataloader_drop_last
ddp ddp_broadcast_buffers ddp_find_unused_parameters deepcompile use_ray expert_parallel_fallback_on_unsupported
accelerator_config.split_batches accelerator_config.dispatch_batches accelerator_config.even_batches
accelerator_config.use_seedable_sampler accelerator_config.non_blocking accelerator_config.use_configured_state
accelerator_config.gradient_accumulation_kwargs.sync_each_batch
accelerator_config.gradient_accumulation_kwargs.sync_with_dataloader
accelerator_config.gradient_accumulation_kwargs.adjust_scheduler
fsdp_config.reshard_after_forward fsdp_config.activation_checkpointing fsdp_config.offload_params
fsdp_config.cpu_offload_pin_memory fsdp_config.cpu_ram_efficient_loading fsdp_config.sync_module_states
fsdp_config.use_orig_params fsdp_config.forward_prefetch fsdp_config.limit_all_gathers
strict debug is_preprocess preprocess_iterable merge_lora
include_tkps include_tokens_per_second use_tensorboard use_wandb use_mlflow hf_mlflow_log_artifacts use_comet
comet_online use_trackio use_swanlab swanlab_log_model swanlab_log_completions use_otel_metrics
gradio_share
nemo_gym_enabled nemo_gym_auto_clone nemo_gym_auto_start nemo_gym_multi_turn
hatchery.train_attn hatchery.train_mlp hatchery.train_unembed hatchery.pipeline
""".split()

TEXTS = {
    "datasets.path": "mhenrichsen/alpaca_2k_test",
    "datasets.split": "train[:20%]",
    "datasets.revision": "main",
    "datasets.input_format": "{input}",
    "datasets.field_human": "human",
    "datasets.field_model": "model",
    "datasets.field": "text",
    "datasets.field_messages": "conversations",
    "datasets.field_system": "system",
    "datasets.field_tools": "tools",
    "datasets.message_field_role": "from",
    "datasets.message_field_content": "value",
    "datasets.message_field_training": "training",
    "datasets.message_field_training_detail": "train_detail",
    "datasets.chat_template": "tokenizer_default",
    "datasets.chat_template_jinja": "{{ messages[0].content }}",
    "datasets.field_thinking": "thinking",
    "datasets.template_thinking_key": "thinking",
    "datasets.input_transform": "chat",
    "datasets.field_chosen": "chosen",
    "datasets.field_rejected": "rejected",
    "datasets.step_separator": "\n",
    "datasets.logprobs_field": "llm_text_generation_vllm_logprobs",
    "datasets.text_column": "text",
    "datasets.type.system_prompt": "",
    "datasets.type.system_format": "{system}",
    "datasets.type.field_system": "system",
    "datasets.type.field_instruction": "instruction",
    "datasets.type.field_input": "input",
    "datasets.type.field_output": "output",
    "datasets.type.format": "[INST] {instruction} {input} [/INST]",
    "datasets.type.no_input_format": "[INST] {instruction} [/INST]",
    "datasets.type.field_prompt": "prompt",
    "datasets.type.prompt_format": "{prompt}",
    "datasets.type.field_chosen": "chosen",
    "datasets.type.chosen_format": "{chosen}",
    "datasets.type.field_rejected": "rejected",
    "datasets.type.rejected_format": "{rejected}",
    "datasets.type.field_completion": "completion",
    "datasets.type.completion_format": "{completion}",
    "datasets.type.field_label": "label",
    "dataset_prepared_path": "last_run_prepared",
    "push_dataset_to_hub": "repo_org/repo_name",
    "ray_run_name": "lora-1b",
    "fsdp_config.transformer_layer_cls_to_wrap": "JambaAttentionDecoderLayer,JambaMambaDecoderLayer",
    "output_dir": "./outputs/lora-out",
    "hub_model_id": "username/custom_model_name",
    "hub_revision": "main",
    "axolotl_config_path": "config.yaml",
    "wandb_project": "nemo-gym-rl",
    "wandb_entity": "team",
    "wandb_name": "run-1",
    "wandb_run_id": "1a2b3c",
    "mlflow_tracking_uri": "http://localhost:5000",
    "mlflow_experiment_name": "my-experiment",
    "mlflow_run_name": "run-1",
    "comet_api_key": "<key>",
    "comet_workspace": "team",
    "comet_project_name": "project",
    "comet_experiment_key": "0123456789abcdefghijklmnopqrstuv",
    "trackio_project_name": "project",
    "trackio_run_name": "run-1",
    "trackio_space_id": "user/space",
    "swanlab_project": "my-project",
    "swanlab_workspace": "my-research-team",
    "swanlab_experiment_name": "llama-3.2-1b-profiling-demo",
    "swanlab_description": "DPO training with completion table logging",
    "swanlab_api_key": "your-api-key",
    "swanlab_web_host": "https://swanlab.yourcompany.com",
    "swanlab_api_host": "https://api.swanlab.yourcompany.com",
    "swanlab_lark_webhook_url": "https://open.feishu.cn/open-apis/bot/v2/hook/xxxxxxxxxx",
    "swanlab_lark_secret": "your-webhook-secret",
    "otel_metrics_host": "localhost",
    "gradio_title": "My model",
    "gradio_server_name": "0.0.0.0",
    "trainer_cls": "my_module.MyTrainer",
    "nemo_gym_dir": "~/Gym",
    "nemo_gym_model_name": "Qwen/Qwen3-0.6B",
    "nemo_gym_datasets.path": "resources_servers/reasoning_gym/data/train_sudoku.jsonl",
    "nemo_gym_datasets.server_name": "reasoning_gym",
    "hatchery.base_url": "http://127.0.0.1:8420",
    "hatchery.api_key": "your-key",
    "hatchery.project_id": "project",
    "hatchery.save_name_prefix": "checkpoint",
}

NUMBERS: dict[str, tuple[list[float], list[float]]] = {
    "datasets.shards": ([10], [0, -1, 2.5]),
    "datasets.shards_idx": ([0, 50], [-1, 0.5]),
    "datasets.preprocess_shards": ([4], [-1]),
    "datasets.max_completion_length": ([128, 256], [0, -1]),
    "datasets.temperature": ([0.6, 1.0], [0, -1]),
    "datasets.skip": ([0, 1000], [-1]),
    "datasets.length": ([1000], [0]),
    "datasets.sequence_length": ([2048], [0]),
    "datasets.min_input_id": ([0, 100], [-1]),
    "datasets.max_input_id": ([32000], [0, -1]),
    "datasets.seed": ([0, 42], [-1, 0.5]),
    "datasets.weight": ([0.5, 3], [0, -1]),
    "datasets.repeat": ([0.1, 2], [0, -0.5]),
    "expect.row": ([1, 7000], [0, -1, 1.5]),
    "max_lost_tokens": ([0, 0.1, 1], [-0.1, 1.5]),
    "val_set_size": ([0, 0.0, 0.05, 200], [-0.1]),
    "num_dataset_shards_to_save": ([1, 8], [-1]),
    "dataset_num_proc": ([16], [-1, 1.5]),
    "sequence_len": ([2048, 1_048_576, 16_777_216], [0, -1, 1.5, 16_777_217]),
    "eval_sequence_len": ([4096], [0, -1]),
    "min_sample_len": ([200_000], [0]),
    "dataset_shard_num": ([4], [-1, 0.5]),
    "dataset_shard_idx": ([0, 3], [-1]),
    "streaming_multipack_buffer_size": ([10000], [0]),
    "pose_max_context_len": ([65536], [0]),
    "pose_num_chunks": ([2], [0]),
    "micro_batch_size": ([1, 64], [0, -1, 0.5]),
    "gradient_accumulation_steps": ([1, 32], [0]),
    "batch_size": ([2, 4, 8], [0]),
    "eval_batch_size": ([1, 8], [0]),
    "sample_packing_group_size": ([100_000], [0]),
    "balance_window": ([1, 8], [0]),
    "sample_packing_bin_size": ([200], [0]),
    "pad_to_multiple_of": ([8, 64], [0]),
    "dataloader_num_workers": ([0, 8], [-1]),
    "dataloader_prefetch_factor": ([2, 256], [-1]),
    "total_num_tokens": ([182913], [-1]),
    "total_supervised_tokens": ([38104], [-1]),
    "sample_packing_eff_est": ([0.98, 1], [1.5, -0.1]),
    "sample_packing_seq_len_multiplier": ([2], [-1]),
    "world_size": ([8], [0]),
    "local_rank": ([0, -1], [0.5]),
    "ddp_timeout": ([1800, 3600], [0, -1]),
    "max_restarts": ([0, 3], [-1, 0.5]),
    "hang_timeout": ([1, 600], [0, -1]),
    "ddp_bucket_cap_mb": ([25], [-1]),
    "fsdp_version": ([1, 2], [0, 3]),
    "fsdp_config.fsdp_version": ([1, 2], [0, 3]),
    "fsdp_config.min_num_params": ([100_000_000], [0, -1]),
    "dp_shard_size": ([1, 2, 4, 16], [-1, 0.5]),
    "dp_replicate_size": ([1, 2], [-1]),
    "tensor_parallel_size": ([1, 2], [-1]),
    "context_parallel_size": ([1, 2, 8], [-1]),
    "heads_k_stride": ([1], [0]),
    "expert_parallel_size": ([2, 4, 8], [0, -1]),
    "expert_parallel_num_nvl_bytes": ([4294967296], [-1]),
    "expert_parallel_num_rdma_bytes": ([0], [-1]),
    "expert_parallel_token_capacity": ([1024, 1_000_000], [0]),
    "ray_num_workers": ([4], [0]),
    "accelerator_config.gradient_accumulation_kwargs.num_steps": ([4], [0]),
    "num_epochs": ([1, 0.1, 3], [0, -1]),
    "max_steps": ([10, 305, 1000], [0, -1]),
    "seed": ([0, 42, 2**32 - 1], [-1, 2**32]),
    "loss_watchdog_threshold": ([5.0, 15.0], [0, -1]),
    "loss_watchdog_patience": ([3], [0]),
    "logging_steps": ([1, 10], [0]),
    "profiler_steps": ([5], [0, -1]),
    "profiler_steps_start": ([0, 20], [-1]),
    "swanlab_completion_log_interval": ([50, 100, 200], [0]),
    "swanlab_completion_max_buffer": ([128, 256], [0]),
    "otel_metrics_port": ([8000], [0, 65536]),
    "gradio_server_port": ([7860], [0, 65536]),
    "gradio_max_new_tokens": ([1024], [0]),
    "gradio_temperature": ([0, 0.9, 1.5], [-0.1]),
    "nemo_gym_head_port": ([11000], [0, 70000]),
    "nemo_gym_server_timeout": ([360], [0]),
    "nemo_gym_verify_timeout": ([120], [0]),
    "nemo_gym_run_timeout": ([300], [0]),
    "nemo_gym_max_turns": ([10], [0]),
    "nemo_gym_datasets.max_samples": ([1000], [-1]),
    "hatchery.lora_rank": ([16, 256], [0, 257]),
    "hatchery.num_samples": ([4], [0]),
    "hatchery.max_sample_tokens": ([256, 2048], [0]),
    "hatchery.sample_temperature": ([0, 0.7], [-1]),
    "hatchery.save_steps": ([5, 10], [-1]),
    "hatchery.future_timeout": ([600.0], [0]),
}

STATE_DICTS = "FULL_STATE_DICT LOCAL_STATE_DICT SHARDED_STATE_DICT"
WORDS = {
    "datasets.ds_type": "json csv parquet arrow text",
    "datasets.train_on_eos": "all turn last none",
    "datasets.train_on_eot": "all turn last none",
    "expect.side": "chosen rejected",
    "excess_length_strategy": "drop truncate raise",
    "sample_packing_mp_start_method": "fork spawn forkserver",
    "ring_attn_func": "varlen_llama3 batch_ring batch_zigzag batch_stripe",
    "expert_parallel_backend": "deep_ep",
    "fsdp_final_state_dict_type": STATE_DICTS,
    "fsdp_config.state_dict_type": STATE_DICTS,
    "fsdp_config.final_state_dict_type": STATE_DICTS,
    "fsdp_config.auto_wrap_policy": "TRANSFORMER_BASED_WRAP SIZE_BASED_WRAP",
    "fsdp_config.mixed_precision_policy": "bf16 fp16",
    "fsdp_config.sharding_strategy": "FULL_SHARD SHARD_GRAD_OP NO_SHARD HYBRID_SHARD",
    "fsdp_config.backward_prefetch": "BACKWARD_PRE BACKWARD_POST NO_PREFETCH",
    "fallbacks": "allow refuse",
    "hub_strategy": "end every_save checkpoint all_checkpoints",
    "wandb_mode": "online offline disabled",
    "wandb_watch": "gradients parameters all false",
    "wandb_log_model": "checkpoint end",
    "comet_mode": "get_or_create get create",
    "swanlab_mode": "cloud local offline disabled",
    "hatchery.backend": "tinker hatchery",
    "hatchery.loss_fn": "cross_entropy importance_sampling ppo cispo dro",
}

OTHERS: dict[str, tuple[list[Any], list[Any]]] = {
    "datasets": ([[{"path": "yahma/alpaca-cleaned", "type": "alpaca"}]], [[], "yahma/alpaca", [7], {"path": "a"}]),
    "test_datasets": ([[{"path": "eval.jsonl", "ds_type": "json", "split": "train", "type": "completion"}]], [[], "a"]),
    "pretraining_dataset": (
        [
            [{"path": "allenai/c4", "name": "en", "type": "pretrain", "split": "train"}],
            [{"path": "HuggingFaceFW/fineweb-edu", "name": "sample-10BT", "type": "pretrain", "text_column": "text"}],
        ],
        [[], "allenai/c4", [{"name": "en"}]],
    ),
    "datasets.type": (["alpaca", "chat_template", {"field_instruction": "q", "format": "{instruction}"}], [7, ["a"]]),
    "datasets.name": (["main", ["sample-10BT", "sample-100BT"]], [7, {"a": 1}, [1]]),
    "datasets.data_files": (["pretrain/rp_sub.jsonl.zst", ["file1.jsonl", "file2.jsonl"]], [7, {"train": "a"}]),
    "datasets.message_property_mappings": ([{"role": "from", "content": "value"}], ["from", {"role": 7}]),
    "datasets.roles": ([{"user": ["human", "user"], "assistant": ["gpt"]}], [["user"], {"user": "human"}]),
    "datasets.roles_to_train": ([["assistant"], []], ["assistant", [1]]),
    "expect": ([[{"row": 1, "trained": "Paris.<|im_end|>"}]], [[], "Paris.", [7], {"row": 1}]),
    "expect.dataset": (["data.jsonl", 0, "test_datasets.1"], [-1, 0.5, ["a"], True]),
    "expect.where": ([{"id": 7}, {"meta.id": "a", "split": None}], [{}, "id", ["id"], 7]),
    "expect.trained": (["Paris.", ["Paris.", "Rome."]], [7, [], [7], True]),
    "expect.weight": ([0.5, 2, [1, 0.3]], [0, -1, [], [0], "half", True]),
    "pose_split_on_token_ids": ([[13, 29889]], [13, ["."], [-1]]),
    "batch_flattening": (["auto", True, False], ["always", 7]),
    "device": (["cuda:0", 0], [[0], 0.5]),
    "device_map": (["auto", {"": 0}, {"model.embed_tokens": "cpu"}], [["auto"], {"": [0]}]),
    "accelerator_config": ([{"gradient_accumulation_kwargs": {"sync_each_batch": True}}], ["a.json", {"batches": 1}]),
    "accelerator_config.gradient_accumulation_kwargs": ([{"sync_each_batch": True}], [4, {"steps": 4}]),
    "deepspeed": (["deepspeed_configs/zero3_bf16.json", {"zero_optimization": {"stage": 3}}], [3, ["zero3.json"]]),
    "fsdp": ([["full_shard", "auto_wrap"], ["auto_wrap", "full_shard", "offload"]], ["full_shard", ["full_shards"]]),
    "fsdp_config": ([{"reshard_after_forward": True, "offload_params": False}], [True, ["full_shard"], {"shard": 1}]),
    "resources_per_worker": ([{"GPU": 1}, {"accelerator_type:L40S": 0.001}], [1, {"GPU": -1}, {"GPU": "one"}]),
    "comet_experiment_config": ([{"tags": ["a", "b"], "log_code": False, "name": "run"}], ["tags", [1]]),
    "plugins": ([["axolotl.integrations.liger.LigerPlugin"]], ["axolotl.integrations.liger.LigerPlugin", [1]]),
    "nemo_gym_datasets": ([[{"path": "a.jsonl", "server_name": "reasoning_gym"}]], ["a.jsonl", [{"server_name": "a"}]]),
    "nemo_gym_config_paths": ([["resources_servers/reasoning_gym/configs/resources_only.yaml"]], ["a.yaml", [1]]),
    "hatchery": ([{"backend": "tinker", "lora_rank": 16, "pipeline": True}], ["tinker", {"rank": 16}]),
    "hatchery.loss_fn_config": ([{"clip_low_threshold": 0.9}], [0.9]),
    "hatchery.reward_funcs": ([["axolotl.integrations.hatchery.rewards.math_reward.math_reward"]], ["reward", [1]]),
}
# fmt: on


def right() -> Iterator[tuple[str, Any]]:
    yield from ((key, value) for key in SWITCHES for value in (True, False))
    yield from TEXTS.items()
    yield from ((key, value) for key, (values, _) in NUMBERS.items() for value in values)
    yield from ((key, word) for key, words in WORDS.items() for word in words.split())
    yield from ((key, value) for key, (values, _) in OTHERS.items() for value in values)


def wrong() -> Iterator[tuple[str, Any]]:
    yield from ((key, value) for key in SWITCHES for value in ("perhaps", 2, [True]))
    yield from ((key, value) for key in TEXTS for value in (7, ["a"], {"a": "b"}, True))
    yield from ((key, value) for key, (_, values) in NUMBERS.items() for value in (*values, "many", True, [1]))
    yield from ((key, value) for key in WORDS for value in ("nonsense", 77, [1]))
    yield from ((key, value) for key, (_, values) in OTHERS.items() for value in values)


@pytest.mark.parametrize(("key", "value"), list(right()))
def test_a_value_that_axolotl_takes_is_accepted(key: str, value: Any) -> None:
    recipe = built(key, value)
    assert isinstance(recipe, Recipe), recipe


@pytest.mark.parametrize(("key", "value"), list(wrong()))
def test_a_value_that_cannot_be_meant_is_refused_at_its_key(key: str, value: Any) -> None:
    findings = built(key, value)
    assert isinstance(findings, list)
    place = dotted(key)
    assert {finding.key for finding in findings if not f"{finding.key}.".startswith(f"{place}.")} == set()


def test_every_key_of_these_sections_stands_in_exactly_one_table() -> None:
    named = [*SWITCHES, *TEXTS, *NUMBERS, *WORDS, *OTHERS]
    assert len(named) == len(set(named))
    assert set(named) == {key for section in SECTIONS for key in keys_of(section)}


def keys_of(section: type[Section], outer: str = "") -> Iterator[str]:
    for key, field in section.model_fields.items():
        yield f"{outer}{key}"
        inner = nested(field.annotation)
        if inner is not None and key not in ("test_datasets", "pretraining_dataset"):  # as datasets
            yield from keys_of(inner, f"{outer}{key}.")


LISTS = ("datasets", "expect", "nemo_gym_datasets")


def dotted(key: str) -> str:
    """`datasets.path` -> `datasets.0.path`."""
    outer, *inner = key.split(".")
    return ".".join([outer, "0", *inner] if inner and outer in LISTS else [outer, *inner])


def built(key: str, value: Any) -> Any:
    """What becomes of the least recipe with `value` at `key`."""
    flat: dict[str, Any] = {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "a", "type": "alpaca"}]}
    outer, *inner = key.split(".")
    if outer in LISTS and inner:
        least = {"datasets": {"path": "a", "type": "alpaca"}, "expect": {}}.get(outer, {"path": "a"})
        flat[outer] = [merged(least, inner, value)]
    else:
        flat = merged(flat, [outer, *inner], value)
    return build(flat)


def merged(mapping: Mapping[str, Any], names: list[str], value: Any) -> dict[str, Any]:
    first, *rest = names
    within = mapping.get(first)
    return {**mapping, first: merged(within if isinstance(within, dict) else {}, rest, value) if rest else value}


@pytest.mark.parametrize(
    ("section", "key", "variable"),
    [
        (TrackingSection, "comet_api_key", "COMET_API_KEY"),
        (TrackingSection, "swanlab_api_key", "SWANLAB_API_KEY"),
        (TrackingSection, "swanlab_lark_secret", "SWANLAB_LARK_SECRET"),
        (Hatchery, "api_key", "TINKER_API_KEY"),
        (Hatchery, "api_key", "HATCHERY_API_KEY"),
    ],
)
def test_the_sentence_of_a_secret_names_the_environment_variable(
    section: type[Section], key: str, variable: str
) -> None:
    assert variable in sentence(section, key)


def test_keys_of_fsdp_1_that_axolotl_passes_over_are_known() -> None:
    config = {
        "fsdp_sharding_strategy": "FULL_SHARD",
        "fsdp_limit_all_gathers": True,
        "fsdp_backward_prefetch": "BACKWARD_PRE",
        "fsdp_forward_prefetch": False,
        "fsdp_sync_module_states": True,
        "fsdp_use_orig_params": False,
    }
    rewritten = rewrite({"fsdp_config": config})
    assert rewritten.findings == ()
    assert isinstance(built("fsdp_config", rewritten.flat["fsdp_config"]), Recipe)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("fsdp_cpu_offload", "offload_params"),
        ("version", "fsdp_version"),
        ("fsdp_backward_prefetch_policy", "remove it"),
    ],
)
def test_other_old_keys_of_fsdp_are_refused_with_what_to_do(key: str, hint: str) -> None:
    (finding,) = rewrite({"fsdp_config": {key: 2}}).findings
    assert finding.key == f"fsdp_config.{key}"
    assert hint in (finding.hint or "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accelerator_config", {"gradient_accumulation_kwargs": {"sync_each_batch": True}}),
        ("accelerator_config", {"split_batches": False, "dispatch_batches": False, "even_batches": True}),
        ("dataloader_drop_last", False),
        ("device_map", "auto"),
        ("num_dataset_shards_to_save", 4),
    ],
)
def test_what_changes_nothing_here_is_accepted(key: str, value: Any) -> None:
    support = assess({key: value})
    assert support.refusals == ()
    assert support.idle


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("accelerator_config", {"split_batches": True}, "accelerator_config.split_batches"),
        (
            "accelerator_config",
            {"gradient_accumulation_kwargs": {"num_steps": 4}},
            "accelerator_config.gradient_accumulation_kwargs.num_steps",
        ),
        ("wandb_log_model", "checkpoint", "wandb_log_model"),
        ("dataloader_drop_last", True, "dataloader_drop_last"),
    ],
)
def test_what_would_change_the_training_or_what_is_kept_is_refused(key: str, value: Any, place: str) -> None:
    assert [finding.key for finding in assess({key: value}).refusals] == [place]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dp_shard_size", 1),
        ("dataset_shard_num", 1),
        ("resources_per_worker", {"GPU": 1}),
        ("wandb_log_model", "false"),
        ("expert_parallel_num_nvl_bytes", 256 << 20),
        ("fsdp_version", 2),
    ],
)
def test_what_asks_for_what_happens_anyway_is_accepted(key: str, value: Any) -> None:
    assert assess({key: value}).refusals == ()
