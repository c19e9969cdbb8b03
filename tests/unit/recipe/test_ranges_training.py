"""Values of the keys about learning, evaluating and saving: those of Axolotl's examples and documentation are of the
right type, and what is out of their range is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from axo.recipe.checkpoint import CheckpointSection
from axo.recipe.evaluation import EvaluationSection
from axo.recipe.objectives import ObjectiveSection
from axo.recipe.optim import OptimSection
from axo.recipe.preferences import PreferenceSection
from axo.recipe.recipe import Recipe, build
from axo.recipe.section import nested

MINIMAL: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [{"path": "a", "type": "alpaca"}],
}
SECTIONS = (PreferenceSection, ObjectiveSection, OptimSection, EvaluationSection, CheckpointSection)

RIGHT: dict[str, list[Any]] = {
    # preferences
    "rl": ["dpo", "ipo", "kto", "simpo", "orpo", "grpo", "gdpo", "ebft"],
    "rl_beta": [0.5, 0.1, 0],
    "precompute_ref_log_probs": [True],
    "dpo_loss_type": [["ipo"], ["sigmoid", "sft"], ["apo_zero"]],
    "dpo_loss_weights": [[0.8, 0.2], [1.0]],
    "dpo_label_smoothing": [0.1, 1e-3],
    "dpo_use_weighting": [True],
    "dpo_use_liger_kernel": [True],
    "dpo_padding_free": [True],
    "kto_desirable_weight": [0.2, 1.0],
    "kto_undesirable_weight": [1.0],
    "orpo_alpha": [0.1],
    "simpo_gamma": [0.5],
    "cpo_alpha": [1.0, 0],
    "reward_model": [True],
    "process_reward_model": [True],
    "center_rewards_coefficient": [0.01],
    "num_labels": [1, 2],
    "max_prompt_len": [512],
    # objectives
    "chunked_cross_entropy": [True],
    "chunked_cross_entropy_num_chunks": [8],
    "use_eaft": [True],
    "eaft_alpha": [1.0],
    "eaft_k": [20],
    "liger_use_token_scaling": [True],
    "neftune_noise_alpha": [5, 5.0],
    "kd_trainer": [True],
    "kd_alpha": [0.9],
    "kd_ce_alpha": [0.1],
    "kd_temperature": [1.0],
    "kd_temperature_min": [0.5],
    "kd_beta": [0.0, 0.5],
    "kd_normalize_topk": [True],
    "kd_online_server_base_url": ["http://localhost:8000"],
    "kd_online_server": ["vllm", "sglang"],
    "kd_online_topk": [64],
    "kd_online_timeout": [120],
    # optim
    "learning_rate": [0.0002, "2e-5", 0.000003],
    "optimizer": [
        "adamw_bnb_8bit", "adamw_torch_fused", "adamw_torch_8bit", "paged_adamw_8bit", "adamw_torch_4bit", "adamw_8bit",
        "paged_adamw_32bit", "adamw_torch", "muon", "dion", "sinkgd", "came_pytorch", "q_galore_adamw8bit",
        "schedule_free_radam", "galore_adafactor_layerwise",
    ],
    "weight_decay": [0.0, 0, 0.1, 0.000001],
    "adam_beta1": [0.9],
    "adam_beta2": [0.95],
    "adam_beta3": [0.9999],
    "adam_epsilon": [0.00001, 1e-30],
    "adam_epsilon2": [1e-16],
    "max_grad_norm": [1.0, 0],
    "lr_scheduler": [
        "cosine", "constant_with_warmup", "linear", "constant", "one_cycle", "rex", "warmup_stable_decay",
        "reduce_lr_on_plateau",
    ],
    "lr_scheduler_kwargs": [{"num_decay_steps": 100}],
    "warmup_steps": [10, 0, 128],
    "warmup_ratio": [0.1, 0.03, 1.0],
    "cosine_min_lr_ratio": [1.0, 0.1],
    "cosine_constant_lr_ratio": [0, 0.8],
    "lr_quadratic_warmup": [True],
    "lr_div_factor": [25.0],
    "lr_groups": [
        [
            {"name": "o_proj", "modules": ["self_attn.o_proj.weight"], "lr": "1e-6"},
            {"name": "q_proj", "modules": ["model.layers.2.self_attn.q_proj.weight"], "lr": 1e-5},
        ],
    ],
    "embedding_lr": [1e-5],
    "embedding_lr_scale": [0.1],
    "optim_args": ["rank=64,scale=0.25", {"sinkhorn_iters": 5, "sinkgd_fused_kernel": True}],
    "optim_target_modules": [["attn", "mlp"], "all_linear"],
    "torchdistx_path": ["/opt/torchdistx"],
    "dion_lr": [0.01],
    "dion_momentum": [0.95],
    "dion_rank_fraction": [1.0, 0.25],
    "dion_rank_multiple_of": [1, 8],
    "qgalore_rank": [256],
    "qgalore_update_proj_gap": [200],
    "qgalore_scale": [0.25],
    "qgalore_proj_type": ["std", "reverse_std", "right", "left", "full"],
    "qgalore_proj_quant": [True],
    "qgalore_proj_bits": [4, 8],
    "qgalore_proj_group_size": [256, -1],
    "qgalore_cos_threshold": [0.4],
    "qgalore_gamma_proj": [2],
    "qgalore_queue_size": [5],
    "grokfast_alpha": [0.98],
    "grokfast_lamb": [2.0],
    # evaluation
    "eval_strategy": ["epoch", "steps", "no", False],
    "eval_steps": [1000, 100, 0.05],
    "evals_per_epoch": [4, 1, 0],
    "metric_for_best_model": ["eval_loss", "accuracy"],
    "greater_is_better": [True, False],
    "load_best_model_at_end": [True],
    "early_stopping_patience": [3],
    "generate_samples": [True],
    "num_generation_samples": [3],
    "generation_prompt_ratio": [0.5],
    "generation_max_new_tokens": [50],
    "generation_do_sample": [False],
    "generation_temperature": [0.7, 0.0],
    "generation_top_p": [0.9, 1.0],
    "generation_top_k": [50],
    "do_causal_lm_eval": [True],
    "eval_causal_lm_metrics": [["perplexity"], ["sacrebleu", "comet", "ter", "chrf"]],
    "eval_max_new_tokens": [32],
    "eval_table_size": [2],
    "do_bench_eval": [True],
    "bench_dataset": ["mmlu-zs", "mmlu-fs", "pharaouk/dharma-1/dharma_1_mini.json"],
    "bench_split": ["eval"],
    "lm_eval_tasks": [["gsm8k", "hellaswag", "arc_easy"], ["gsm8k:5"]],
    "lm_eval_batch_size": [8],
    "lm_eval_post_train": [False],
    "lm_eval_model": ["meta-llama/Llama-2-7b-hf"],
    # checkpoint
    "save_strategy": ["steps", "best", "epoch", "no", False],
    "save_steps": [50, 5000, 0.25],
    "saves_per_epoch": [1, 5],
    "save_first_step": [True],
    "save_total_limit": [1, 3],
    "save_only_model": [True],
    "save_safetensors": [True],
    "resume_from_checkpoint": ["./outputs/checkpoint-100"],
    "auto_resume_from_checkpoints": [True],
}  # fmt: skip

BLOCKS: dict[str, dict[str, list[Any]]] = {
    "trl": {
        "beta": [0.001, 0],
        "loss_type": ["grpo", "bnpo", "dr_grpo", "dapo"],
        "epsilon": [0.2],
        "epsilon_high": [0.28, 5.0],
        "importance_sampling_level": ["token", "sequence"],
        "num_iterations": [1],
        "mask_truncated_completions": [True],
        "use_liger_loss": [True],
        "reward_funcs": [
            ["rwd.format_reward", "rwd.correctness_reward"],
            ["OpenAssistant/reward-model-deberta-v3-large-v2"],
        ],
        "reward_weights": [[1.0, 2.0], [1, -0.5]],
        "scale_rewards": [True],
        "multi_objective_aggregation": ["normalize_then_sum", "sum_then_normalize"],
        "reward_num_workers": [4],
        "rollout_func": ["my_module.my_rollout_func"],
        "num_generations": [2, 4, 8],
        "generation_batch_size": [32],
        "max_completion_length": [128, 256],
        "temperature": [0.7, 1.0],
        "top_p": [0.95, 1.0],
        "top_k": [50, 0, -1],
        "min_p": [0.05],
        "repetition_penalty": [1.1],
        "generation_kwargs": [{"stop_token_ids": [248044, 248046]}],
        "chat_template_kwargs": [{"enable_thinking": False}],
        "use_vllm": [True, False],
        "vllm_mode": ["server", "colocate"],
        "vllm_server_host": ["0.0.0.0"],
        "vllm_server_port": [8000],
        "vllm_server_timeout": [300],
        "vllm_guided_decoding_regex": [r"\d+"],
        "vllm_enable_sleep_mode": [True],
        "vllm_sync_interval": [3],
        "vllm_lora_sync": [True],
        "sync_ref_model": [True],
        "ref_model_mixup_alpha": [0.9],
        "ref_model_sync_steps": [64],
        "use_data_producer": [True],
        "async_prefetch": [True],
        "prefetch_depth": [1],
        "streaming_partial_batch": [True],
        "streaming_min_groups": [1],
        "skip_zero_advantage_batches": [True],
        "replay_buffer_size": [100, 0],
        "replay_recompute_logps": [True],
        "reroll_start_fraction": [0.5, 1.0],
        "reroll_max_groups": [1],
        "vllm_importance_sampling_correction": [True],
        "vllm_importance_sampling_mode": ["token_truncate", "sequence_mask"],
        "vllm_importance_sampling_cap": [3.0],
        "off_policy_mask_threshold": [0.5],
        "use_bias_correction_kl": [True],
        "log_completions": [True],
        "num_completions_to_print": [3],
    },
    "vllm": {
        "host": ["0.0.0.0"],
        "port": [8000],
        "tensor_parallel_size": [1, 2],
        "data_parallel_size": [1],
        "gpu_memory_utilization": [0.5, 0.7, 0.85],
        "dtype": ["auto", "float16", "bfloat16"],
        "max_model_len": [2048],
        "enable_prefix_caching": [True],
        "enforce_eager": [True],
        "device": ["auto", "cuda"],
        "enable_reasoning": [True],
        "reasoning_parser": ["deepseek_r1"],
        "serve_module": ["axolotl.scripts.vllm_serve_lora"],
        "worker_extension_cls": ["trl.scripts.vllm_serve.WeightSyncWorkerExtension"],
    },
    "ebft": {
        "mode": ["structured", "strided"],
        "feature_layers": [[0.25, 0.5, 0.75]],
        "embed_method": ["last_token", "completion_mean", "mean_pooling", "concat"],
        "use_whitening": [True, False],
        "alignment_coef": [1.0],
        "diversity_coef": [1.0, 0.0],
        "ce_coef": [0.0, 0.03],
        "adaptive_max_tokens": [True],
        "gt_length_multiplier": [1.5],
        "stride": [8],
        "context_length": [8],
        "generate_max_len": [8],
        "n_samples_per_prompt": [4, 1],
        "temperature": [0.6],
        "top_p": [1.0],
        "rl_coef": [1.0],
        "advantage_estimator": ["rloo", "group_norm", "reinforce"],
        "min_completion_prefix": [8, 0],
    },
    "diffusion": {
        "eps": ["1e-3", 5e-4],
        "importance_weighting": [True],
        "mask_token_id": [128002],
        "mask_token_str": ["<|diffusion_mask|>"],
        "noise_schedule": ["cosine", "linear"],
        "min_mask_ratio": [0.1, 0.15],
        "max_mask_ratio": [0.9, 0.85],
        "num_diffusion_steps": [128],
        "generate_samples": [True],
        "generation_interval": [250, 100],
        "num_generation_samples": [3],
        "generation_steps": [128],
        "generation_temperature": [0.0],
        "generation_max_length": [100],
    },
    "dynamic_checkpoint": {
        "enabled": [True, False],
        "check_interval": [10, 100],
        "trigger_file_path": ["", "save_now"],
    },
}

WRONG: dict[str, list[Any]] = {
    "rl": ["ppo", True, 1],
    "rl_beta": [-0.1, "high", True],
    "dpo_loss_type": ["ipo", [], ["cpo"], [1]],
    "dpo_loss_weights": [[], [-1.0], 0.5],
    "dpo_label_smoothing": [-0.1, 1.5],
    "dpo_use_weighting": ["often", 2],
    "kto_desirable_weight": [-1],
    "kto_undesirable_weight": [-1],
    "orpo_alpha": [-0.1],
    "simpo_gamma": [-0.5],
    "cpo_alpha": [-1],
    "center_rewards_coefficient": [-0.01],
    "num_labels": [0, 1.5],
    "max_prompt_len": [-1, "long"],
    "trl": [True, ["use_vllm"]],
    "vllm": ["auto"],
    "ebft": [8],
    "chunked_cross_entropy_num_chunks": [0, 1.5],
    "eaft_alpha": [-1],
    "eaft_k": [0],
    "neftune_noise_alpha": [0, -5],
    "kd_trainer": ["online", 0.5],
    "kd_alpha": [1.5, -0.1],
    "kd_ce_alpha": [2],
    "kd_temperature": [0, -1],
    "kd_temperature_min": [0],
    "kd_beta": [1.1, -0.1],
    "kd_online_server": ["openai"],
    "kd_online_topk": [0],
    "kd_online_timeout": [0, "soon"],
    "diffusion": [True],
    "learning_rate": [0, -1e-4, "fast", True],
    "optimizer": ["adamw_trch", "adam", 8],
    "weight_decay": [-0.1],
    "adam_beta1": [1.0, -0.1],
    "adam_beta2": [1.0, 99],
    "adam_beta3": [1.0],
    "adam_epsilon": [0, -1e-8],
    "adam_epsilon2": [-1e-16],
    "max_grad_norm": [-1],
    "lr_scheduler": ["cosin", "exponential"],
    "lr_scheduler_kwargs": ["num_cycles=2", [1]],
    "warmup_steps": [-1, 0.1],
    "warmup_ratio": [1.5, -0.1],
    "cosine_min_lr_ratio": [1.1, -0.1],
    "cosine_constant_lr_ratio": [80],
    "lr_quadratic_warmup": ["slowly"],
    "lr_div_factor": [0, -25],
    "lr_groups": [{"name": "o_proj"}, "o_proj"],
    "embedding_lr": [-1e-5],
    "embedding_lr_scale": [-2],
    "optim_args": [5, ["rank=64"]],
    "optim_target_modules": ["attn", [1], True],
    "dion_lr": [-0.01],
    "dion_momentum": [1.0],
    "dion_rank_fraction": [0, 2],
    "dion_rank_multiple_of": [0],
    "qgalore_rank": [0],
    "qgalore_update_proj_gap": [-200],
    "qgalore_scale": [-0.25],
    "qgalore_proj_type": ["both"],
    "qgalore_proj_bits": [16, 0],
    "qgalore_proj_group_size": [-2],
    "qgalore_cos_threshold": [1.5],
    "qgalore_gamma_proj": [0],
    "qgalore_queue_size": [0],
    "grokfast_alpha": [2.0],
    "grokfast_lamb": [-2],
    "eval_strategy": ["epochs", "best", True],
    "eval_steps": [0, -100, "often"],
    "evals_per_epoch": [-1, 0.5],
    "early_stopping_patience": [-3, 1.5],
    "num_generation_samples": [-1],
    "generation_prompt_ratio": [1.5],
    "generation_max_new_tokens": [-50],
    "generation_temperature": [-0.7],
    "generation_top_p": [0, 1.5],
    "generation_top_k": [-1],
    "eval_causal_lm_metrics": ["perplexity", ["bleu"]],
    "eval_max_new_tokens": [-1],
    "eval_table_size": [-1],
    "lm_eval_tasks": ["gsm8k", [1]],
    "lm_eval_batch_size": [-8, "auto"],
    "save_strategy": ["always", True],
    "save_steps": [0, -1],
    "saves_per_epoch": [0, 0.5],
    "save_total_limit": [0, -1],
    "dynamic_checkpoint": [True],
}

WRONG_INSIDE: dict[str, list[tuple[str, Any]]] = {
    "trl": [
        ("beta", -0.1),
        ("loss_type", "ppo"),
        ("epsilon", -0.2),
        ("importance_sampling_level", "word"),
        ("num_iterations", 0),
        ("reward_funcs", "rwd.format_reward"),
        ("reward_weights", 1.0),
        ("scale_rewards", "group"),
        ("multi_objective_aggregation", "mean"),
        ("reward_num_workers", 0),
        ("num_generations", 0),
        ("max_completion_length", 0),
        ("temperature", 0),
        ("top_p", 0),
        ("top_k", -2),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("generation_kwargs", "seed=1"),
        ("vllm_mode", "remote"),
        ("vllm_server_port", 70000),
        ("vllm_server_timeout", -1),
        ("vllm_sync_interval", 0),
        ("ref_model_mixup_alpha", 1.5),
        ("ref_model_sync_steps", 0),
        ("prefetch_depth", 0),
        ("streaming_min_groups", 0),
        ("replay_buffer_size", -1),
        ("reroll_start_fraction", 50),
        ("vllm_importance_sampling_mode", "truncate"),
        ("vllm_importance_sampling_cap", 0),
        ("off_policy_mask_threshold", -0.5),
        ("num_completions_to_print", -1),
        ("bta", 0.1),
    ],
    "vllm": [
        ("port", 0),
        ("port", "http"),
        ("tensor_parallel_size", 0),
        ("gpu_memory_utilization", 1.5),
        ("gpu_memory_utilization", 0),
        ("dtype", "int8"),
        ("max_model_len", 0),
        ("enforce_eager", "maybe"),
    ],
    "ebft": [
        ("mode", "online"),
        ("feature_layers", []),
        ("feature_layers", 0.5),
        ("embed_method", "first_token"),
        ("alignment_coef", -1),
        ("gt_length_multiplier", 0),
        ("stride", 0),
        ("n_samples_per_prompt", 0),
        ("temperature", -0.6),
        ("top_p", 1.5),
        ("advantage_estimator", "gae"),
        ("min_completion_prefix", -1),
    ],
    "diffusion": [
        ("noise_schedule", "sqrt"),
        ("eps", 1.5),
        ("min_mask_ratio", -0.1),
        ("max_mask_ratio", 1.2),
        ("num_diffusion_steps", 0),
        ("mask_token_id", "<mask>"),
        ("generation_interval", 0),
        ("generation_temperature", -1),
    ],
    "dynamic_checkpoint": [("check_interval", 0), ("enabled", "sometimes"), ("trigger_file_path", 1)],
}


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(key, value) for key, values in table.items() for value in values]


def refused(key: str, value: Any) -> list[str]:
    built = build({**MINIMAL, key: value})
    return [] if isinstance(built, Recipe) else [finding.key for finding in built]


@pytest.mark.parametrize(("key", "value"), cases(RIGHT))
def test_what_axolotls_recipes_say_is_of_the_right_type(key: str, value: Any) -> None:
    assert refused(key, value) == []


@pytest.mark.parametrize(
    ("block", "key", "value"), [(block, *case) for block, table in BLOCKS.items() for case in cases(table)]
)
def test_what_axolotls_recipes_say_inside_a_block_is_of_the_right_type(block: str, key: str, value: Any) -> None:
    assert refused(block, {key: value}) == []


@pytest.mark.parametrize(("key", "value"), cases(WRONG))
def test_what_is_out_of_range_is_refused_by_its_key(key: str, value: Any) -> None:
    assert [place.split(".")[0] for place in refused(key, value)] == [key]


@pytest.mark.parametrize(
    ("block", "key", "value"), [(block, key, value) for block, table in WRONG_INSIDE.items() for key, value in table]
)
def test_what_is_out_of_range_inside_a_block_is_refused_by_its_place(block: str, key: str, value: Any) -> None:
    assert refused(block, {key: value}) == [f"{block}.{key}"]


def test_an_item_of_a_list_is_refused_by_its_place() -> None:
    group = {"name": "a", "modules": ["q_proj"], "lr": 1e-5}
    assert refused("lr_groups", [group, {**group, "lr": -1}]) == ["lr_groups.1.lr"]
    assert refused("lr_groups", [{**group, "modules": []}]) == ["lr_groups.0.modules"]
    assert refused("ebft", {"feature_layers": [0.25, 1.5]}) == ["ebft.feature_layers.1"]
    assert refused("dpo_loss_type", ["sigmoid", "sigmod"]) == ["dpo_loss_type.1"]


def test_every_key_has_a_value_here() -> None:
    for section in SECTIONS:
        for key, info in section.model_fields.items():
            inner = nested(info.annotation)
            if key in BLOCKS:
                assert inner is not None
                assert set(BLOCKS[key]) == set(inner.model_fields), key
            else:
                assert key in RIGHT, key
