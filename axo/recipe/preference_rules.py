"""Rules about training on preferences and rewards."""

from __future__ import annotations

from collections.abc import Sequence

from axo.errors import Finding
from axo.recipe.recipe import Recipe
from axo.recipe.table_rules import Excludes, Needs, Only, When, on
from axo.recipe.trl import TRL


def dpo_losses(recipe: Recipe) -> list[Finding]:
    """dpo_loss_weights has one weight for each of dpo_loss_type."""
    losses, weights = recipe.preferences.dpo_loss_type, recipe.preferences.dpo_loss_weights
    if weights is None:
        return []
    if losses is None:
        hint = "name the losses, for example dpo_loss_type: [sigmoid, sft]"
        return [Finding("dpo_loss_weights", "needs dpo_loss_type (the losses that are weighted)", hint)]
    if len(losses) == len(weights):
        return []
    message = f"found {_count(weights, 'weight')} for {_count(losses, 'loss', 'losses')} in dpo_loss_type"
    return [Finding("dpo_loss_weights", message, "give one weight for each loss")]


def rewards(recipe: Recipe) -> list[Finding]:
    """Training with rewards names them, and weighs each of them or none."""
    trl = recipe.preferences.trl
    if recipe.preferences.rl not in _ROLLOUTS or recipe.extensions.nemo_gym_enabled:
        return []
    functions, weights = (None, None) if trl is None else (trl.reward_funcs, trl.reward_weights)
    if not functions:
        hint = "for example trl: {reward_funcs: [my_module.my_reward]}"
        message = f"this key is missing: rl: {recipe.preferences.rl} needs it"
        return [Finding("trl.reward_funcs", message, hint)]
    if weights is None or len(weights) == len(functions):
        return []
    message = f"found {_count(weights, 'weight')} for {_count(functions, 'function')} in reward_funcs"
    return [Finding("trl.reward_weights", message, "give one weight for each function, or remove it")]


def generations(recipe: Recipe) -> list[Finding]:
    """The answers of a step are whole groups: an advantage is the distance from the mean of the whole group."""
    trl = recipe.preferences.trl
    if recipe.preferences.rl not in _ROLLOUTS or trl is None or trl.num_generations is None:
        return []
    group = trl.num_generations
    if trl.generation_batch_size is not None:
        size, key, said = trl.generation_batch_size, "trl.generation_batch_size", "generation_batch_size"
    else:
        batch, devices = recipe.batch, recipe.engines.world_size or 1
        rows = batch.batch_size or batch.micro_batch_size * (batch.gradient_accumulation_steps or 1)
        size, key = rows * devices, "trl.num_generations"
        said = "micro_batch_size x gradient_accumulation_steps" + (" x world_size" if devices > 1 else "")
    if size % group == 0:
        return []
    message = f"{said}, {size}, is no multiple of num_generations, {group}"
    return [Finding(key, message, "groups must be whole: change the one or the other")]


def betas(recipe: Recipe) -> list[Finding]:
    """trl.beta and rl_beta are one number."""
    trl, beta = recipe.preferences.trl, recipe.preferences.rl_beta
    if trl is None or trl.beta is None or beta is None or trl.beta == beta:
        return []
    return [Finding("rl_beta", f"{beta:g} is not trl.beta, {trl.beta:g}", "keep one of the two")]


def _count(items: Sequence[object], one: str, more: str | None = None) -> str:
    return f"{len(items)} {one if len(items) == 1 else more or one + 's'}"


def _rl(*names: str) -> tuple[When, ...]:
    return (on("rl", *names),)


def _trl(*names: str) -> tuple[str, ...]:
    assert set(names) <= set(TRL.model_fields), names
    return tuple(f"trl.{name}" for name in names)


_ROLLOUTS = ("grpo", "gdpo")
_VLLM = (
    "vllm_mode", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_guided_decoding_regex",
    "vllm_enable_sleep_mode", "vllm_sync_interval", "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode", "vllm_importance_sampling_cap", "vllm_lora_sync",
)  # fmt: skip
_ONE_TASK = "a run trains for one of the two"
_KEEP_ONE = "keep one of the two"
LAWS = (
    Excludes(
        on("sample_packing"), on("rl"), "a preference compares whole answers, a pack joins samples into one row",
        "remove sample_packing",
    ),
    Excludes(
        on("eval_sample_packing"), on("rl"), "a preference compares whole answers, a pack joins samples into one row",
        "remove eval_sample_packing",
    ),
    Excludes(on("reward_model"), on("rl"), _ONE_TASK, _KEEP_ONE),
    Excludes(on("process_reward_model"), on("rl"), _ONE_TASK, _KEEP_ONE),
    Excludes(on("process_reward_model"), on("reward_model"), _ONE_TASK, _KEEP_ONE),
    Excludes(on("pretraining_dataset"), on("rl"), "a text to continue prefers nothing", "use datasets, or remove rl"),
    Only(("center_rewards_coefficient",), (on("reward_model"),)),
    Only(("num_labels",), (on("reward_model"), on("process_reward_model"))),
    Only(("dpo_loss_type", "dpo_loss_weights", "dpo_label_smoothing"), _rl("dpo")),
    Only(
        ("dpo_use_weighting", "precompute_ref_log_probs", "dpo_use_liger_kernel", "dpo_padding_free"),
        _rl("dpo", "ipo"),
    ),
    Only(("orpo_alpha",), _rl("orpo")),
    Only(("simpo_gamma", "cpo_alpha"), _rl("simpo")),
    Only(("kto_desirable_weight", "kto_undesirable_weight"), _rl("kto")),
    Only(("rl_beta",), (on("rl"),)),
    Excludes(
        on("orpo_alpha"), on("rl_beta"), "both are the weight of the preference in ORPO's loss", "keep one of the two"
    ),
    Needs(on("rl", "ebft"), (on("ebft"),), "its settings", "for example ebft: {mode: structured}"),
    Only(("ebft",), _rl("ebft")),
    Only(("trl",), (on("rl"),)),
    Only(_trl("reward_funcs", "reward_weights", "num_generations", "generation_batch_size"), _rl(*_ROLLOUTS, "ebft")),
    Only(("vllm",), _rl(*_ROLLOUTS, "ebft")),
    Only(_trl(*_VLLM), (on("trl.use_vllm"),), "set use_vllm: true in trl, or remove it"),
    Only(
        _trl("ref_model_mixup_alpha", "ref_model_sync_steps"), (on("trl.sync_ref_model"),),
        "set sync_ref_model: true in trl, or remove it",
    ),
    Only(
        _trl("prefetch_depth", "streaming_partial_batch", "streaming_min_groups"), (on("trl.async_prefetch"),),
        "set async_prefetch: true in trl, or remove it",
    ),
    Excludes(
        on("trl.multi_objective_aggregation", "sum_then_normalize"), on("rl", "gdpo"),
        "GDPO normalises each reward before it adds them", "set normalize_then_sum, or rl: grpo",
    ),
    Needs(
        on("trl.vllm_lora_sync"), (on("adapter"),), "it sends the adapter alone to the server",
        "set adapter: lora, or remove it",
    ),
)  # fmt: skip
