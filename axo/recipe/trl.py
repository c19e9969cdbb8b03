"""The block `trl`: reinforcement learning with generated answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import Section


class TRL(Section):
    beta: NonNegativeFloat | None = None
    """Weight of the KL divergence from the reference model; unset: rl_beta, else 0, which needs no such model."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] | None = None
    """How token losses become one number: a mean over each answer (grpo, Shao et al. 2024, arXiv 2402.03300), over all
    tokens of a step (dapo, Yu et al. 2025, arXiv 2503.14476), by a constant (dr_grpo, Liu et al. 2025, arXiv
    2503.20783), or another of trl's losses; unset: dapo."""
    epsilon: NonNegativeFloat | None = None
    """How far the probability ratio to the sampling policy may fall below 1 before it is clipped; unset: 0.2."""
    epsilon_high: NonNegativeFloat | None = None
    """How far that ratio may rise above 1 before it is clipped; unset: epsilon."""
    importance_sampling_level: Literal["sequence", "token"] | None = None
    """One ratio for each token, or one for the whole answer (GSPO, Zheng et al. 2025, arXiv 2507.18071); unset:
    token."""
    num_iterations: PositiveInt | None = None
    """Times that a batch of answers is learnt from; unset: 1."""
    mask_truncated_completions: bool = False
    """Leave answers that ran into max_completion_length out of the loss."""
    use_liger_loss: bool | None = None
    """Compute the loss with Liger's fused kernel, which never holds all logits in memory."""

    reward_funcs: list[str] | None = None
    """Rewards: `module.function` importable from the working folder, or the name or folder of a reward model."""
    reward_weights: list[float] | None = None
    """Weight of each reward in reward_funcs, in the same order; unset: 1 each."""
    scale_rewards: bool = True
    """Divide rewards by the standard deviation within the answers to a prompt."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] | None = None
    """Add several rewards before they are normalised, or after (GDPO, Liu et al. 2026, arXiv 2601.05242); unset: before
    with grpo, after with gdpo."""
    reward_num_workers: PositiveInt = 1
    """Processes that compute rewards, each with a main thread of its own; needs use_data_producer."""
    rollout_func: str | None = None
    """`module.function` that generates the answers itself, for tasks with an environment; unset: trl generates."""

    num_generations: PositiveInt | None = None
    """Answers to each prompt, at least two, which are compared with one another; unset: 8. It must divide the
    generation batch."""
    generation_batch_size: PositiveInt | None = None
    """Answers generated at a time over all devices; unset: those of one step."""
    max_completion_length: PositiveInt | None = None
    """Most tokens of an answer; unset: as the generator decides."""
    temperature: PositiveFloat | None = None
    """Temperature of sampling; unset: 1."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample among the likeliest tokens whose probabilities add up to this (Holtzman et al. 2019, arXiv 1904.09751);
    unset: 1, all tokens."""
    top_k: int | None = Field(default=None, ge=-1)
    """Sample among so many of the likeliest tokens; 0, for vLLM also -1, or unset: among all."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Leave out tokens less likely than this share of the likeliest token's probability; unset: none."""
    repetition_penalty: PositiveFloat | None = None
    """Above 1: tokens that occurred before become less likely; below 1: more likely; unset: 1."""
    generation_kwargs: dict[str, Any] | None = None
    """More settings of sampling, as vLLM's SamplingParams or transformers' GenerationConfig name them."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables for the chat template of prompts, for example `enable_thinking: false`."""

    use_vllm: bool = False
    """Generate with vLLM instead of with the trained model itself."""
    vllm_mode: Literal["server", "colocate"] | None = None
    """vLLM as a server of its own, or in the training processes on the same GPUs; unset: server."""
    vllm_server_host: str | None = "0.0.0.0"
    """Host of the server (mode server)."""
    vllm_server_port: int | None = Field(default=8000, ge=1, le=65535)
    """Port of the server (mode server)."""
    vllm_server_timeout: PositiveInt | None = None
    """Seconds to wait until the server is up (mode server); unset: 240."""
    vllm_guided_decoding_regex: str | None = None
    """Regular expression that every answer must match; unset: any answer."""
    vllm_enable_sleep_mode: bool | None = None
    """Clear vLLM off the GPU while the model learns (mode colocate)."""
    vllm_sync_interval: PositiveInt | None = None
    """Steps after which vLLM gets the new weights; unset: 1."""
    vllm_lora_sync: bool = False
    """Hand vLLM the LoRA adapter as a file instead of all merged weights."""

    sync_ref_model: bool | None = False
    """Let the reference model follow the trained one (TR-DPO, Gorbatovski et al. 2024, arXiv 2404.09656)."""
    ref_model_mixup_alpha: float | None = Field(default=0.9, ge=0, le=1)
    """Share of the trained model in the new reference model, with sync_ref_model."""
    ref_model_sync_steps: PositiveInt | None = 64
    """Steps from one such update to the next."""

    use_data_producer: bool = False
    """Generate answers apart from the training loop, which the asynchronous keys below and reward workers need."""
    async_prefetch: bool = False
    """Generate the next answers while the model learns from the last ones; they then come from older weights."""
    prefetch_depth: PositiveInt | None = None
    """Batches of answers generated ahead; unset: 1."""
    streaming_partial_batch: bool | None = None
    """Score the answers prompt by prompt instead of the whole batch at once, which takes less memory."""
    streaming_min_groups: PositiveInt | None = None
    """Prompts scored at a time with streaming_partial_batch; unset: 1."""
    skip_zero_advantage_batches: bool = True
    """Skip micro-batches whose answers all got the same reward: they teach nothing."""
    replay_buffer_size: NonNegativeInt = 0
    """Prompts whose answers differed in reward, kept to stand in for prompts that teach nothing; 0: none are kept."""
    replay_recompute_logps: bool = True
    """Score kept answers anew with the present model, so that their probability ratios are right."""
    reroll_start_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the run after which prompts that taught nothing are asked again; 1: never."""
    reroll_max_groups: NonNegativeInt = 1
    """Most prompts of a batch that are such repeats."""

    vllm_importance_sampling_correction: bool | None = None
    """Weight tokens by how far their probability under the trained model is from that under vLLM; unset: yes."""
    vllm_importance_sampling_mode: (
        Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None
    ) = None
    """Weights by token or by answer, those too large cut down or their tokens left out; unset: sequence_mask, in
    asynchronous training token_truncate."""
    vllm_importance_sampling_cap: PositiveFloat | None = None
    """Weight from which on it is too large; unset: 3."""
    off_policy_mask_threshold: NonNegativeFloat | None = None
    """Leave out answers of negative advantage whose KL divergence from the policy that wrote them is above this
    (DeepSeek-AI 2025, arXiv 2512.02556); unset: none is left out."""
    use_bias_correction_kl: bool | None = None
    """Weight the KL term by the probability ratio, which makes its gradient unbiased; unset: the default of trl."""

    log_completions: bool | None = False
    """Print a sample of prompts, answers and rewards, and log it to W&B, every logging_steps steps."""
    num_completions_to_print: PositiveInt | None = None
    """Answers that are printed with log_completions; unset: all."""
