"""The optimizer and its learning rate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from axo.recipe.section import NoEffect, NotYet, Section, Supported


class LrGroup(Section):
    name: str
    """."""
    modules: list[str]
    """."""
    lr: float
    """."""


class OptimSection(Section):
    learning_rate: PositiveFloat
    """Highest learning rate, reached after warmup."""
    optimizer: Annotated[
        Literal[
            "adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "adalomo", "adamw_8bit", "adamw_anyprecision",
            "adamw_apex_fused", "adamw_bnb_8bit", "adamw_hf", "adamw_torch_4bit", "adamw_torch_8bit",
            "adamw_torch_npu_fused", "adamw_torch_xla", "ademamix", "ademamix_8bit", "adopt_adamw", "ao_adamw_4bit",
            "ao_adamw_8bit", "ao_adamw_fp8", "apollo_adamw", "apollo_adamw_layerwise", "came_pytorch", "dion",
            "flash_adam", "flash_adamw", "flash_lion", "flash_sgd", "flash_sgdw", "galore_adafactor",
            "galore_adafactor_layerwise", "galore_adamw", "galore_adamw_8bit", "galore_adamw_8bit_layerwise",
            "galore_adamw_layerwise", "grokadamw", "lion_32bit", "lion_8bit", "lion_pytorch", "lomo", "muon",
            "optimi_adamw", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit",
            "paged_lion_32bit", "paged_lion_8bit", "q_galore_adamw8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_32bit",
            "rmsprop_bnb_8bit", "schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd", "sgd", "sinkgd",
            "stable_adamw",
        ],
        Supported("adamw_torch", "adamw_torch_fused"),
    ] = "adamw_torch_fused"  # fmt: skip
    """AdamW of torch (Loshchilov and Hutter 2019, arXiv 1711.05101); `_fused` where the device has it."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of weight matrices; biases and norms have none."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    adam_epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    lr_scheduler: Annotated[
        Literal[
            "cosine", "linear", "constant", "constant_with_warmup", "cosine_warmup_with_min_lr", "cosine_with_min_lr",
            "cosine_with_restarts", "inverse_sqrt", "log_sweep", "one_cycle", "polynomial", "reduce_lr_on_plateau",
            "rex", "warmup_stable_decay",
        ],
        Supported("cosine", "linear", "constant", "constant_with_warmup"),
    ] = "cosine"  # fmt: skip
    """Shape of the learning rate after warmup."""
    warmup_steps: NonNegativeInt | None = None
    """Steps of linear warmup; unset: by warmup_ratio, else 3 % of the steps and at most 100."""
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1)
    """Share of the steps that warm up."""
    cosine_min_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """Lowest learning rate of cosine and linear as a share of learning_rate."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""
    embedding_lr: Annotated[float | None, NotYet()] = None
    """."""
    embedding_lr_scale: Annotated[float | None, NotYet()] = None
    """."""
    optim_args: Annotated[str | dict[str, Any] | None, NotYet()] = None
    """."""
    optim_target_modules: Annotated[list[str] | Literal["all_linear"] | None, NotYet()] = None
    """."""
    torchdistx_path: Annotated[str | None, NotYet()] = None
    """."""
    lr_scheduler_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    lr_quadratic_warmup: Annotated[bool | None, NotYet()] = None
    """."""
    cosine_constant_lr_ratio: Annotated[float | None, NotYet()] = None
    """."""
    lr_div_factor: Annotated[float | None, NoEffect("nothing reads it")] = None
    """."""
    lr_groups: Annotated[list[LrGroup] | None, NotYet()] = None
    """."""
    adam_epsilon2: Annotated[float | None, NotYet()] = None
    """."""
    adam_beta3: Annotated[float | None, NotYet()] = None
    """."""
    dion_lr: Annotated[float | None, NotYet()] = None
    """."""
    dion_momentum: Annotated[float | None, NotYet()] = None
    """."""
    dion_rank_fraction: Annotated[float | None, NotYet()] = 1.0
    """."""
    dion_rank_multiple_of: Annotated[int | None, NotYet()] = 1
    """."""
    qgalore_rank: Annotated[int | None, NotYet()] = 256
    """."""
    qgalore_update_proj_gap: Annotated[int | None, NotYet()] = 200
    """."""
    qgalore_scale: Annotated[float | None, NotYet()] = 0.25
    """."""
    qgalore_proj_type: Annotated[str | None, NotYet()] = "std"
    """."""
    qgalore_proj_quant: Annotated[bool | None, NotYet()] = True
    """."""
    qgalore_proj_bits: Annotated[int | None, NotYet()] = 4
    """."""
    qgalore_proj_group_size: Annotated[int | None, NotYet()] = 256
    """."""
    qgalore_cos_threshold: Annotated[float | None, NotYet()] = 0.4
    """."""
    qgalore_gamma_proj: Annotated[int | None, NotYet()] = 2
    """."""
    qgalore_queue_size: Annotated[int | None, NotYet()] = 5
    """."""
    grokfast_alpha: Annotated[float | None, NotYet()] = 0.98
    """."""
    grokfast_lamb: Annotated[float | None, NotYet()] = 2.0
    """."""
