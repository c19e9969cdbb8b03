"""The block `ebft`: energy-based fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from axo.recipe.section import Section


class EBFT(Section):
    feature_layers: list[float] = Field(default_factory=lambda: [0.25, 0.5, 0.75])
    """."""
    embed_method: Literal["last_token", "mean_pooling", "completion_mean", "concat"] = "last_token"
    """."""
    use_whitening: bool = False
    """."""
    alignment_coef: float = 1.0
    """."""
    diversity_coef: float = 1.0
    """."""
    ce_coef: float = 0.0
    """."""
    adaptive_max_tokens: bool = True
    """."""
    gt_length_multiplier: float = 1.5
    """."""
    mode: Literal["structured", "strided"] = "structured"
    """."""
    stride: int = 8
    """."""
    context_length: int = 8
    """."""
    generate_max_len: int = 8
    """."""
    n_samples_per_prompt: int = 4
    """."""
    temperature: float = 0.6
    """."""
    top_p: float = 1.0
    """."""
    rl_coef: float = 1.0
    """."""
    advantage_estimator: Literal["rloo", "group_norm", "reinforce"] = "rloo"
    """."""
    min_completion_prefix: int = 0
    """."""
