"""The block `trl`: reinforcement learning with generated answers."""

from __future__ import annotations

from typing import Any, Literal

from axo.recipe.section import Section


class TRL(Section):
    beta: float | None = None
    """."""
    max_completion_length: int | None = None
    """."""
    use_vllm: bool = False
    """."""
    vllm_mode: Literal["server", "colocate"] | None = None
    """."""
    vllm_server_host: str | None = "0.0.0.0"
    """."""
    vllm_server_port: int | None = 8000
    """."""
    vllm_server_timeout: int | None = None
    """."""
    vllm_guided_decoding_regex: str | None = None
    """."""
    reward_funcs: list[str] | None = None
    """."""
    reward_weights: list[float] | None = None
    """."""
    generation_batch_size: int | None = None
    """."""
    num_generations: int | None = None
    """."""
    log_completions: bool | None = False
    """."""
    num_completions_to_print: int | None = None
    """."""
    importance_sampling_level: Literal["sequence", "token"] | None = None
    """."""
    sync_ref_model: bool | None = False
    """."""
    ref_model_mixup_alpha: float | None = 0.9
    """."""
    ref_model_sync_steps: int | None = 64
    """."""
    scale_rewards: bool = True
    """."""
    temperature: float | None = None
    """."""
    top_p: float | None = None
    """."""
    top_k: int | None = None
    """."""
    min_p: float | None = None
    """."""
    repetition_penalty: float | None = None
    """."""
    generation_kwargs: dict[str, Any] | None = None
    """."""
    chat_template_kwargs: dict[str, Any] | None = None
    """."""
    num_iterations: int | None = None
    """."""
    epsilon: float | None = None
    """."""
    epsilon_high: float | None = None
    """."""
    use_liger_loss: bool | None = None
    """."""
    loss_type: str | None = None
    """."""
    mask_truncated_completions: bool = False
    """."""
    vllm_enable_sleep_mode: bool | None = None
    """."""
    rollout_func: str | None = None
    """."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] | None = None
    """."""
    use_data_producer: bool = False
    """."""
    async_prefetch: bool = False
    """."""
    prefetch_depth: int | None = None
    """."""
    vllm_sync_interval: int | None = None
    """."""
    streaming_partial_batch: bool | None = None
    """."""
    streaming_min_groups: int | None = None
    """."""
    vllm_importance_sampling_correction: bool | None = None
    """."""
    vllm_importance_sampling_mode: (
        Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None
    ) = None
    """."""
    vllm_importance_sampling_cap: float | None = None
    """."""
    off_policy_mask_threshold: float | None = None
    """."""
    use_bias_correction_kl: bool | None = None
    """."""
    reward_num_workers: int = 1
    """."""
    replay_buffer_size: int = 0
    """."""
    replay_recompute_logps: bool = True
    """."""
    reroll_start_fraction: float = 1.0
    """."""
    reroll_max_groups: int = 1
    """."""
    skip_zero_advantage_batches: bool = True
    """."""
    vllm_lora_sync: bool = False
    """."""
