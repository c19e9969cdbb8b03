"""Every Axolotl key and value that no section has: rewritten, accepted with a note, or refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def known_names() -> list[str]:
    """Top-level keys of these tables, for "did you mean"."""
    return [*RENAMED, *SWITCHES, *WITHOUT_EFFECT, *NOT_YET, *GONE]


def other_names(key: str) -> list[str]:
    """Keys that say the same as `key`, under another name or as a switch for one of its values."""
    name = RENAMED.get(key) or SWITCHES.get(key, (key,))[0]
    names = [name, *(old for old, new in RENAMED.items() if new == name)]
    names += [switch for switch, (target, _) in SWITCHES.items() if target == name]
    return [other for other in names if other != key]


def _each(groups: Mapping[str, str]) -> dict[str, str]:
    """`reason -> "key key ..."` turned round."""
    return {key: reason for reason, keys in groups.items() for key in keys.split()}


RENAMED: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "dataset_processes": "dataset_num_proc",
    "model_revision": "revision_of_model",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "dpo_beta": "rl_beta",
    "sequence_parallel_degree": "context_parallel_size",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "gc_steps": "gc_collect_steps",
}
"""Another name of the same key."""

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

WITHOUT_EFFECT: Mapping[str, str] = _each(
    {
        "unknown keys are always refused": "strict",
        "the files of the tokenizer decide": "tokenizer_type",
        "the tokenizer's chat template is saved beside it": "tokenizer_save_jinja_files",
        "texts are tokenised by all threads of one process": "dataset_num_proc",
        "prepared data is mapped from disk, there is no loader": "dataloader_pin_memory dataloader_num_workers "
        "dataloader_prefetch_factor dataset_keep_in_memory num_dataset_shards_to_save accelerator_config",
        "only the columns that a format names are read": "remove_unused_columns",
        "no sample is left out at the end of an epoch": "dataloader_drop_last",
        "a pack may hold any number of samples": "sample_packing_bin_size",
        "packing runs in one process and counts exactly": "sample_packing_mp_start_method sample_packing_eff_est "
        "sample_packing_seq_len_multiplier total_num_tokens total_supervised_tokens",
        "a pack is always one row": "multipack_real_batches",
        "recomputation never re-enters autograd": "gradient_checkpointing_kwargs",
        "gradients and weights are not sent to trackers": "wandb_watch wandb_log_model",
        "tokens per second are always recorded": "include_tokens_per_second include_tkps",
        "weights are always saved as safetensors": "save_safetensors",
        "adapters are always merged shard by shard": "merge_method",
        "new embeddings begin at the mean of the others": "mean_resizing_embeddings",
        "fast tokenizers are always used": "tokenizer_use_fast",
        "the Plan decides where tensors are and in which type": "device device_map local_rank low_cpu_mem_usage "
        "lora_on_cpu experimental_skip_move_to_device embeddings_skip_upcast qlora_sharded_model_loading",
        "several devices always train together": "ddp",
        "it would change speed or memory, not what is learnt": "ddp_bucket_cap_mb ddp_broadcast_buffers "
        "ddp_find_unused_parameters torch_compile torch_compile_backend torch_compile_mode torch_compile_options "
        "lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel flash_attn_cross_entropy "
        "flash_attn_fuse_mlp flash_attn_rms_norm flash_optimum fused_attn_kernel flex_attn_compile_kwargs use_kernels "
        "batch_flattening tiled_mlp tiled_mlp_num_shards tiled_mlp_use_original_mlp torch_empty_cache_steps "
        "gc_collect_steps liger_rope liger_rms_norm liger_rms_norm_gated liger_layer_norm liger_swiglu "
        "liger_glu_activation liger_cross_entropy liger_fused_linear_cross_entropy cut_cross_entropy",
        "hub credentials are used where there are any": "hf_use_auth_token",
        "the config of the model says it": "is_falcon_derived_model is_llama_derived_model is_mistral_derived_model "
        "is_qwen_derived_model",
        "it is set by the command": "is_preprocess preprocess_iterable merge_lora axolotl_config_path debug",
        "nothing reads it": "lr_div_factor max_prompt_len bench_split eval_table_size eval_max_new_tokens",
    }
)
"""Key -> why it changes nothing here."""

NOT_YET: Mapping[str, str] = _each(
    {
        "another class of config or processor": "cls_model_config processor_type processor_kwargs",
        "another way of tokenising": "tokenizer_legacy tokenizer_use_mistral_common added_tokens_overrides",
        "changes to embeddings": "resize_token_embeddings_to_32x shrink_embeddings fix_untrained_tokens",
        "changes to the config of the model": "model_config model_kwargs rope_scaling llama4_linearized_experts",
        "quantised base weights": "model_quantization_config model_quantization_config_kwargs use_onebitllms gptq "
        "bnb_config_kwargs quantize_moe_experts",
        "upload to a hub": "hub_model_id hub_strategy hub_revision push_dataset_to_hub",
        "more ways of LoRA": "lora_target_parameters lora_rank_pattern lora_alpha_pattern peft_layers_to_transform "
        "peft_layers_pattern peft peft_use_dora peft_layer_replication peft_init_lora_weights "
        "peft_trainable_token_indices peft_ensure_weight_tying peft_autocast_adapter_dtype loraplus_lr_ratio "
        "loraplus_lr_embedding mora",
        "ReLoRA": "relora relora_prune_ratio relora_prune_method relora_cpu_offload jagged_restart_steps "
        "jagged_restart_warmup_steps jagged_restart_anneal_steps",
        "training of a part of the weights": "unfrozen_parameters lisa_n_layers lisa_step_interval "
        "lisa_layers_attribute spectrum_top_fraction spectrum_model_name",
        "a batch size found by trial": "auto_find_batch_size",
        "other orders of the samples": "group_by_length curriculum_sampling shuffle_before_merging_datasets",
        "learning rates of their own for some weights": "embedding_lr embedding_lr_scale lr_groups",
        "settings of other optimizers": "optim_args optim_target_modules torchdistx_path adam_epsilon2 adam_beta3 "
        "dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of qgalore_rank qgalore_update_proj_gap "
        "qgalore_scale qgalore_proj_type qgalore_proj_quant qgalore_proj_bits qgalore_proj_group_size "
        "qgalore_cos_threshold qgalore_gamma_proj qgalore_queue_size grokfast_alpha grokfast_lamb",
        "settings of other learning rate schedules": "lr_scheduler_kwargs lr_quadratic_warmup cosine_constant_lr_ratio",
        "the tracker MLflow": "use_mlflow mlflow_tracking_uri mlflow_experiment_name mlflow_run_name "
        "hf_mlflow_log_artifacts",
        "the tracker Comet": "use_comet comet_api_key comet_workspace comet_project_name comet_experiment_key "
        "comet_mode comet_online comet_experiment_config",
        "the tracker Trackio": "use_trackio trackio_project_name trackio_run_name trackio_space_id",
        "the tracker SwanLab": "use_swanlab swanlab_project swanlab_experiment_name swanlab_description swanlab_mode "
        "swanlab_workspace swanlab_api_key swanlab_log_model swanlab_web_host swanlab_api_host "
        "swanlab_lark_webhook_url swanlab_lark_secret swanlab_log_completions swanlab_completion_log_interval "
        "swanlab_completion_max_buffer",
        "OpenTelemetry metrics": "use_otel_metrics otel_metrics_host otel_metrics_port",
        "a web page for inference": "gradio_title gradio_share gradio_server_name gradio_server_port "
        "gradio_max_new_tokens gradio_temperature",
        "Ray": "use_ray ray_run_name ray_num_workers resources_per_worker",
        "images and sound": "image_size image_resize_algorithm role_boundaries freeze_mm_modules",
        "training on preferences and rewards": "rl trl vllm ebft reward_model process_reward_model num_labels "
        "center_rewards_coefficient dpo_use_weighting dpo_label_smoothing precompute_ref_log_probs "
        "dpo_use_liger_kernel dpo_padding_free dpo_loss_type dpo_loss_weights dpo_use_logits_to_keep "
        "dpo_generate_during_eval dpo_norm_loss rpo_alpha orpo_alpha simpo_gamma cpo_alpha kto_desirable_weight "
        "kto_undesirable_weight rl_beta",
        "quantisation while or after training": "qat quantization llmcompressor",
        "a trainer class of the user": "trainer_cls",
        "plugins": "plugins",
        "parts of a data set": "dataset_shard_num dataset_shard_idx",
        "data that is not prepared": "skip_prepare_dataset",
        "streamed and pretraining data": "pretraining_dataset streaming streaming_multipack_buffer_size "
        "pretrain_multipack_attn pretraining_sample_concatenation",
        "removal of repeated rows": "dataset_exact_deduplication",
        "another length for evaluation": "eval_sequence_len",
        "skipped positions (PoSE)": "use_pose pose_split_on_token_ids pose_max_context_len pose_num_chunks",
        "more ways to evaluate": "do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_dataset "
        "generate_samples num_generation_samples generation_max_new_tokens generation_temperature generation_top_p "
        "generation_top_k generation_prompt_ratio generation_do_sample lm_eval_tasks lm_eval_batch_size "
        "lm_eval_post_train lm_eval_model",
        "choice of the best checkpoint": "metric_for_best_model greater_is_better early_stopping_patience "
        "load_best_model_at_end",
        "other contents and times of checkpoints": "dynamic_checkpoint save_first_step save_only_model",
        "an end of training at a high loss": "loss_watchdog_threshold loss_watchdog_patience",
        "8-bit floating point": "fp8 fp8_enable_fsdp_float8_all_gather",
        "16-bit floating point with loss scaling": "float16",
        "norms in float32": "fp32_norms fp32_norm_classes",
        "more ways to save memory": "selective_checkpointing activation_offloading layer_offloading max_memory "
        "gpu_memory_limit",
        "changes to attention": "gemma4_hybrid_attn_impl large_head_attention flash_attn_d512 scaling_softmax "
        "scaling_softmax_factor scaling_softmax_bias",
        "kernels for mixtures of experts and quantised weights": "experts_implementation expert_backend "
        "nonexpert_quantization moe_grouped_backend moe_dequant_chunk_size moe_bnb_fast use_scattermoe use_sonicmoe "
        "use_dsv4_kernels use_glm_dsa_kernels dsv4_fp8_nonexpert_mode dsv4_fp8_lora_kernel "
        "dsv4_shared_mlp_lora_kernel dsv4_bf16_all dsv4_fp4_grouped_mode gemma4_fp8_nonexpert gemma4_nf4_nonexpert "
        "nvfp4_merge_aware nvfp4_merge_aware_start_step dense_mixer",
        "another loss": "use_eaft eaft_alpha eaft_k neftune_noise_alpha liger_use_token_scaling",
        "DeepSpeed": "deepspeed deepcompile",
        "FSDP": "fsdp fsdp_config fsdp_version fsdp_final_state_dict_type dp_shard_size dp_replicate_size",
        "context parallelism": "context_parallel_size heads_k_stride ring_attn_func",
        "tensor parallelism": "tensor_parallel_size",
        "expert parallelism": "expert_parallel_size expert_parallel_backend expert_parallel_num_nvl_bytes "
        "expert_parallel_num_rdma_bytes expert_parallel_token_capacity expert_parallel_fallback_on_unsupported",
        "a profiler": "profiler_steps profiler_steps_start",
        "distillation": "kd_trainer kd_ce_alpha kd_alpha kd_temperature kd_beta kd_normalize_topk "
        "kd_online_server_base_url kd_online_topk kd_online_server kd_online_timeout kd_temperature_min",
        "diffusion language models": "diffusion",
        "NeMo Gym": "nemo_gym_enabled nemo_gym_dir nemo_gym_auto_clone nemo_gym_config_paths nemo_gym_head_port "
        "nemo_gym_server_timeout nemo_gym_verify_timeout nemo_gym_run_timeout nemo_gym_datasets nemo_gym_auto_start "
        "nemo_gym_model_name nemo_gym_multi_turn nemo_gym_max_turns",
        "training on remote machines": "hatchery",
    }
)
"""Key -> what it is about. Accepted where its value switches it off."""

GONE: Mapping[str, str] = {
    "max_packed_sequence_len": "use sample_packing and sequence_len",
    "s2_attention": "remove it",
    "adam_eps": "use adam_epsilon",
    "eta_min": "use cosine_min_lr_ratio, a share of learning_rate",
    "context_parapllel_size": "it is written context_parallel_size",
    "full_finetune": "leave adapter unset to train all weights",
    "torch_dtype": "use bf16",
    "base_model_ignore_patterns": "remove it",
    "gptq_disable_exllama": "remove it",
    "gptq_groupsize": "remove it",
    "gptq_model_v1": "remove it",
    "test_value": "remove it",
    "unsloth_cross_entropy_loss": "remove it",
    "unsloth_lora_mlp": "remove it",
    "unsloth_lora_qkv": "remove it",
    "unsloth_lora_o": "remove it",
    "unsloth_rms_norm": "remove it",
    "unsloth_rope": "remove it",
}
"""Key of old recipes -> what to do about it. Accepted where its value switches it off."""

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "peft_init_lora_weights": (True,),
    "peft_autocast_adapter_dtype": (True,),
    "tokenizer_use_fast": (True,),
    "save_safetensors": (True,),
    "dataloader_drop_last": (False,),
    "tensor_parallel_size": (1,),
    "context_parallel_size": (1,),
    "expert_parallel_size": (1,),
    "dp_shard_size": (1,),
    "dp_replicate_size": (1,),
    "ray_num_workers": (1,),
    "fsdp_version": (1, 2),
}
"""Key -> the values that ask for what axo does anyway, where these are not simply "off"."""

HARMLESS_PLUGINS = ("liger", "cut_cross_entropy")
"""Plugins whose keys are without effect: a part of their names."""

NOT_YET_VALUES: Mapping[str, frozenset[Any]] = {
    "adapter": frozenset({"qlora", "llama-adapter", "mora"}),
    "load_in_8bit": frozenset({True}),
    "load_in_4bit": frozenset({True}),
    "fp16": frozenset({True}),
    "gradient_checkpointing": frozenset({"offload", "offload_disk", "unsloth"}),
    "save_strategy": frozenset({"best"}),
    "ds_type": frozenset({"arrow", "text"}),
    "attn_implementation": frozenset(
        "flash_attention_3 flash_attention_4 flex_attention xformers sage fp8 kernels-community/flash-attn "
        "kernels-community/flash-attn2 kernels-community/flash-attn3 kernels-community/vllm-flash-attn3".split()
    ),
    "optimizer": frozenset(
        "adafactor adagrad adalomo adamw_8bit adamw_anyprecision adamw_apex_fused adamw_bnb_8bit adamw_hf "
        "adamw_torch_4bit adamw_torch_8bit adamw_torch_npu_fused adamw_torch_xla ademamix ademamix_8bit adopt_adamw "
        "ao_adamw_4bit ao_adamw_8bit ao_adamw_fp8 apollo_adamw apollo_adamw_layerwise came_pytorch dion flash_adam "
        "flash_adamw flash_lion flash_sgd flash_sgdw galore_adafactor galore_adafactor_layerwise galore_adamw "
        "galore_adamw_8bit galore_adamw_8bit_layerwise galore_adamw_layerwise grokadamw lion_32bit lion_8bit "
        "lion_pytorch lomo muon optimi_adamw paged_adamw_32bit paged_adamw_8bit paged_ademamix_32bit "
        "paged_ademamix_8bit paged_lion_32bit paged_lion_8bit q_galore_adamw8bit rmsprop rmsprop_bnb rmsprop_bnb_32bit "
        "rmsprop_bnb_8bit schedule_free_adamw schedule_free_radam schedule_free_sgd sgd sinkgd stable_adamw".split()
    ),
    "lr_scheduler": frozenset(
        "cosine_warmup_with_min_lr cosine_with_min_lr cosine_with_restarts inverse_sqrt log_sweep one_cycle polynomial "
        "reduce_lr_on_plateau rex warmup_stable_decay".split()
    ),
}
"""Key of a section -> values of it that Axolotl knows and axo does not have yet."""

ENTRY_WITHOUT_EFFECT: Mapping[str, str] = _each(
    {
        "rows are read once, whole": "preprocess_shards",
        "nothing reads it": "input_format field_human field_model",
    }
)
"""Key of a data set -> why it changes nothing here."""

ENTRY_NOT_YET: Mapping[str, str] = _each(
    {
        "a transformation of rows": "input_transform",
        "parts of a data set": "shards shards_idx",
        "thinking apart from the answer": "field_thinking template_thinking_key split_thinking",
        "training of parts of a message": "message_field_training_detail",
        "end-of-turn tokens apart from end-of-sequence tokens": "train_on_eot",
        "distillation": "logprobs_field temperature",
        "data sets with code of their own": "trust_remote_code",
        "training on preferences and rewards": "field_chosen field_rejected field_prompt step_separator "
        "max_completion_length train_on_last_step_only",
        "synthetic data": "length sequence_length min_input_id max_input_id seed",
        "streamed and pretraining data": "text_column skip",
    }
)
"""Key of a data set -> what it is about. Accepted where its value switches it off."""

ENTRY_GONE: Mapping[str, str] = {"conversation": "use type: chat_template, and chat_template for the way of writing"}

TYPE_NOT_YET: Mapping[str, str] = _each(
    {
        "training on preferences and rewards": "field_prompt field_chosen field_rejected field_completion field_label "
        "prompt_format chosen_format rejected_format completion_format",
    }
)
"""Key of a `type:` mapping -> what it is about."""

TYPES_NOT_YET = frozenset(
    "alpaca_chat alpaca_instruct alpaca_w_system orcamini context_qa creative_acr metharme pygmalion llama2_chat "
    "jeopardy oasst gpteacher reflection explainchoice concisechoice summarizetldr pretrain messages _synthetic "
    "stepwise_supervised bradley_terry chatml llama3 zephyr passthrough ebft_chat_multiturn ebft_opencode "
    "ebft_reasoning ebft_strided_chat ebft_strided_structured user_defined".split()
)
"""First words (before `:` or `.`) of Axolotl's `type:` strings that axo does not have yet."""

TYPES_GONE: Mapping[str, str] = {
    "sharegpt": "use type: chat_template with field_messages: conversations, message_field_role: from and "
    "message_field_content: value",
}
"""First words of `type:` strings of old recipes -> what to use."""

CHAT_TEMPLATES_NOT_YET = frozenset(
    "alpaca aya chatml_thinking cohere command_a command_a_rag command_a_tool_use deepseek_v2 deepseek_v3 exaone "
    "exaone4 falcon_h1 gemma gemma3 gemma3n gemma4 granite granite4 granitemoe jamba llama3_2_vision llama4 llava "
    "metharme mistral_v1 mistral_v2v3 mistral_v3_tekken mistral_v7_tekken phi_3 phi_35 phi_4 pixtral qwen2_vl "
    "qwen3 qwen3_5 qwen_25 smolvlm voxtral".split()
)
"""Names of chat templates that Axolotl ships and axo does not have yet."""
