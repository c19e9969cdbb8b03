"""Training on preferences and rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from axo.recipe.ebft import EBFT
from axo.recipe.section import NoEffect, NotYet, Section
from axo.recipe.trl import TRL
from axo.recipe.vllm import VLLM


class PreferenceSection(Section):
    dpo_use_logits_to_keep: Annotated[bool | None, NotYet()] = None
    """."""
    dpo_generate_during_eval: Annotated[bool | None, NotYet()] = None
    """."""
    dpo_norm_loss: Annotated[bool | None, NotYet()] = None
    """."""
    rpo_alpha: Annotated[float | None, NotYet()] = None
    """."""
    rl: Annotated[Literal["dpo", "ipo", "kto", "simpo", "orpo", "grpo", "gdpo", "ebft"] | None, NotYet()] = None
    """."""
    trl: Annotated[TRL | None, NotYet()] = None
    """."""
    vllm: Annotated[VLLM | None, NotYet()] = None
    """."""
    ebft: Annotated[EBFT | None, NotYet()] = None
    """."""
    reward_model: Annotated[bool | None, NotYet()] = None
    """."""
    process_reward_model: Annotated[bool | None, NotYet()] = None
    """."""
    center_rewards_coefficient: Annotated[float | None, NotYet()] = None
    """."""
    num_labels: Annotated[int | None, NotYet()] = None
    """."""
    dpo_use_weighting: Annotated[bool | None, NotYet()] = None
    """."""
    dpo_label_smoothing: Annotated[float | None, NotYet()] = None
    """."""
    precompute_ref_log_probs: Annotated[bool | None, NotYet()] = None
    """."""
    dpo_use_liger_kernel: Annotated[bool | None, NotYet()] = None
    """."""
    dpo_padding_free: Annotated[bool | None, NotYet()] = None
    """."""
    dpo_loss_type: Annotated[Annotated[list[str], Field(min_length=1)] | None, NotYet()] = None
    """."""
    dpo_loss_weights: Annotated[Annotated[list[float], Field(min_length=1)] | None, NotYet()] = None
    """."""
    max_prompt_len: Annotated[int | None, NoEffect("nothing reads it")] = None
    """."""
    orpo_alpha: Annotated[float | None, NotYet()] = None
    """."""
    simpo_gamma: Annotated[float | None, NotYet()] = None
    """."""
    cpo_alpha: Annotated[float | None, NotYet()] = None
    """."""
    kto_desirable_weight: Annotated[float | None, NotYet()] = None
    """."""
    kto_undesirable_weight: Annotated[float | None, NotYet()] = None
    """."""
    rl_beta: Annotated[float | None, NotYet()] = None
    """."""
