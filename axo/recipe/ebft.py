"""The block `ebft`: energy-based fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from axo.recipe.section import Section


class EBFT(Section):
    mode: Literal["structured", "strided"] = "structured"
    """`structured` answers prompts, with vLLM and the block trl; `strided` continues a text at many places of it in one
    pass, without vLLM."""
    feature_layers: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0.25, 0.5, 0.75]
    )
    """Depths whose hidden states are compared, as shares of the layers."""
    embed_method: Literal["last_token", "mean_pooling", "completion_mean", "concat"] = "last_token"
    """One vector of a text: its last token, the mean of all tokens, the mean of the answer's tokens, or the states at a
    quarter, a half and three quarters of it side by side."""
    use_whitening: bool = False
    """Decorrelate the vectors of a prompt's answers and scale them alike before they are compared."""
    alignment_coef: NonNegativeFloat = 1.0
    """Weight of the cosine similarity to the true answer in the reward."""
    diversity_coef: NonNegativeFloat = 1.0
    """Weight of the similarity to the other answers to the prompt, which lowers the reward; 0: none."""
    ce_coef: NonNegativeFloat = 0.0
    """Weight of the cross-entropy on the true answer in the loss."""

    adaptive_max_tokens: bool = True
    """Generate by the length of the true answers of a batch instead of up to trl.max_completion_length (structured)."""
    gt_length_multiplier: float = Field(default=1.5, ge=0.1)
    """Tokens generated with adaptive_max_tokens, as a multiple of the true answer's."""

    stride: PositiveInt = 8
    """Tokens from one place that is continued to the next (strided, as all keys below)."""
    context_length: PositiveInt = 8
    """Tokens before such a place that its continuation sees."""
    generate_max_len: PositiveInt = 8
    """Tokens that are generated at each place."""
    n_samples_per_prompt: PositiveInt = 4
    """Continuations of each place; a single one is learnt from as by reinforce, without a diversity term."""
    temperature: NonNegativeFloat = 0.6
    """Temperature of sampling; 0: always the likeliest token."""
    top_p: float = Field(default=1.0, ge=0, le=1)
    """Sample among the likeliest tokens whose probabilities add up to this (Holtzman et al. 2019, arXiv 1904.09751)."""
    rl_coef: NonNegativeFloat = 1.0
    """Weight of the policy gradient in the loss."""
    advantage_estimator: Literal["rloo", "group_norm", "reinforce"] = "rloo"
    """What a reward is measured against: the mean of the other samples (rloo, Ahmadian et al. 2024, arXiv 2402.14740),
    the group's mean and standard deviation (group_norm), or nothing (reinforce)."""
    min_completion_prefix: NonNegativeInt = 0
    """Tokens of an answer that come before its first continued place."""
