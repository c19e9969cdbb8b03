"""Other spellings of keys, and keys that no longer are: what Axolotl's recipes of all ages may hold beside the fields
of the sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def known_names() -> list[str]:
    """Top-level keys of these tables, for "did you mean"."""
    return [*RENAMED, *SWITCHES, *(key for key in GONE if "." not in key)]


def other_names(key: str) -> list[str]:
    """Keys that say the same as `key`, under another name or as a switch for one of its values."""
    name = RENAMED.get(key) or SWITCHES.get(key, (key,))[0]
    names = [name, *(old for old, new in RENAMED.items() if new == name)]
    names += [switch for switch, (target, _) in SWITCHES.items() if target == name]
    return [other for other in names if other != key]


RENAMED: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "dataset_processes": "dataset_num_proc",
    "model_revision": "revision_of_model",
    "model_config": "overrides_of_model_config",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "dpo_beta": "rl_beta",
    "sequence_parallel_degree": "context_parallel_size",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "gc_steps": "gc_collect_steps",
}
"""Another name of the same key."""

EQUAL_NAMES = frozenset({"model_revision", "model_config"})
"""Names that need no note: what recipes write, where the attribute in the code cannot be called so."""

SWITCHES: Mapping[str, tuple[str, Any]] = {
    "xformers_attention": ("attn_implementation", "xformers"),
    "sage_attention": ("attn_implementation", "sage"),
    "flex_attention": ("attn_implementation", "flex_attention"),
    "flash_attention": ("attn_implementation", "flash_attention_2"),
    "sdp_attention": ("attn_implementation", "sdpa"),
    "eager_attention": ("attn_implementation", "eager"),
    "sdpa_varlen": ("attn_implementation", "sdpa_varlen"),
    "bfloat16": ("bf16", "full"),
    "float32": ("bf16", False),
}
"""Where `true` chooses a value of another key."""

YIELDING = frozenset({"bfloat16"})
"""Switches that add nothing where the recipe gives their key itself a value that is not off."""

VALUES: Mapping[tuple[str, Any], Mapping[str, Any]] = {
    ("gradient_checkpointing", "offload"): {"gradient_checkpointing": True, "activation_offloading": True},
    ("gradient_checkpointing", "offload_disk"): {"gradient_checkpointing": True, "activation_offloading": "disk"},
    ("gradient_checkpointing", "unsloth"): {"gradient_checkpointing": True, "activation_offloading": True},
}
"""Key and value -> the keys and values that say the same."""

PREFIXES: Mapping[str, str] = {"fsdp_config": "fsdp_"}
"""Key that holds a mapping -> prefix that the keys inside may carry."""

UNPREFIXED = frozenset({"fsdp_version"})
"""Keys inside that begin with the prefix by their own name."""

LEFT_OUT_WHERE_OFF = frozenset({"deepspeed"})
"""Keys that are no switches, and that recipes switch off all the same."""

FSDP_WORDS: Mapping[str, Mapping[str, Any]] = {
    "full_shard": {"reshard_after_forward": True},
    "shard_grad_op": {"reshard_after_forward": False},
    "hybrid_shard": {"sharding_strategy": "HYBRID_SHARD"},
    "hybrid_shard_zero2": {"sharding_strategy": "HYBRID_SHARD_ZERO2"},
    "auto_wrap": {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP"},
    "offload": {"offload_params": True},
}
"""Word of the list `fsdp` -> keys of fsdp_config that say the same."""

PLUGINS: Mapping[str, str] = {
    "liger": "its keys liger_* are taken one by one",
    "cut_cross_entropy": "chunked_cross_entropy computes the same loss in as little memory, and is on where it can be",
}
"""Package of an Axolotl plugin -> why it is not needed here."""

PLUGINS_NOT_YET: Mapping[str, str] = {
    "kernels": "kernels for mixtures of experts (use_scattermoe, use_sonicmoe, ...)",
    "kd": "distillation (kd_* keys)",
    "diffusion": "diffusion language models (diffusion)",
    "mora": "MoRA adapters (mora)",
    "expert_parallel": "expert parallelism (expert_parallel_* keys)",
    "spectrum": "training of the layers with the best signal (spectrum_* keys)",
    "swanlab": "the tracker SwanLab (swanlab_* keys)",
    "densemixer": "gradients for all experts (dense_mixer)",
    "grokfast": "amplified slow gradients (grokfast_* keys)",
    "llm_compressor": "sparse and quantised models (llmcompressor)",
    "lm_eval": "the evaluation harness (lm_eval_* keys)",
    "nemo_gym": "rewards of NeMo Gym (nemo_gym_* keys)",
    "hatchery": "training on remote machines (hatchery)",
}
"""Package of an Axolotl plugin -> what it adds."""

GONE: Mapping[str, str] = {
    "max_packed_sequence_len": "use sample_packing and sequence_len",
    "s2_attention": "remove it",
    "adam_eps": "use adam_epsilon",
    "eta_min": "use cosine_min_lr_ratio, a share of learning_rate",
    "context_parapllel_size": "it is written context_parallel_size",
    "full_finetune": "leave adapter unset to train all weights",
    "torch_dtype": "use bf16",
    "rpo_alpha": "use dpo_loss_type: [sigmoid, sft] with dpo_loss_weights",
    "dpo_norm_loss": "remove it; trl no longer has it either",
    "dpo_use_logits_to_keep": "remove it; logits are computed at trained positions anyway",
    "dpo_generate_during_eval": "use generate_samples",
    "base_model_ignore_patterns": "remove it",
    "gptq_disable_exllama": "remove it",
    "gptq_groupsize": "remove it; the quantised model's own config says it",
    "gptq_model_v1": "remove it; the quantised model's own config says it",
    "test_value": "remove it",
    "unsloth_cross_entropy_loss": "remove it; chunked_cross_entropy is on where it can be",
    "unsloth_lora_mlp": "remove it",
    "unsloth_lora_qkv": "remove it",
    "unsloth_lora_o": "remove it",
    "unsloth_rms_norm": "remove it",
    "unsloth_rope": "remove it",
    "fsdp_config.version": "it is written fsdp_version",
    "fsdp_config.cpu_offload": "use offload_params",
    "fsdp_config.backward_prefetch_policy": "remove it; FSDP 2 decides itself when parameters are gathered",
    "datasets.conversation": "use type: chat_template, and chat_template for the way of writing",
}
"""Key of old recipes (inside a mapping or list: with the names around it) -> what to do about it. Accepted where its
value switches it off."""

TYPES_NOT_YET = frozenset(
    "ebft_chat_multiturn ebft_opencode ebft_reasoning ebft_strided_chat ebft_strided_structured".split()
)
"""First words (before `:` or `.`) of Axolotl's `type:` strings that axo does not have yet."""

TYPES_GONE: Mapping[str, str] = {
    "sharegpt": "use type: chat_template with field_messages: conversations, message_field_role: from and "
    "message_field_content: value",
    "user_defined": "give type: as a mapping, as in type: {field_instruction: question, field_output: answer}",
}
"""First words of `type:` strings of old recipes -> what to use."""
