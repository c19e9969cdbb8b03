"""The optimizer and its learning rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from axo.recipe.section import Section


class OptimSection(Section):
    learning_rate: PositiveFloat
    """Highest learning rate, reached after warmup."""
    optimizer: Literal["adamw_torch", "adamw_torch_fused"] = "adamw_torch_fused"
    """AdamW of torch (Loshchilov and Hutter 2019, arXiv 1711.05101); `_fused` where the device has it."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of weight matrices; biases and norms have none."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    adam_epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    lr_scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """Shape of the learning rate after warmup."""
    warmup_steps: NonNegativeInt | None = None
    """Steps of linear warmup; unset: by warmup_ratio, else 3 % of the steps and at most 100."""
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1)
    """Share of the steps that warm up."""
    cosine_min_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """Lowest learning rate of cosine and linear as a share of learning_rate."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""
