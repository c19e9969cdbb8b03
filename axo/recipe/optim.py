"""The optimizer and its learning rate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import UNREAD, NotYet, Section, Supported


class LrGroup(Section):
    name: str
    """Name of the group."""
    modules: Annotated[list[str], Field(min_length=1)]
    """Parts of parameter names; a weight matrix belongs to the group if its name contains one of them."""
    lr: NonNegativeFloat
    """Highest learning rate of the group."""


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
        Supported(
            "adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "adamw_8bit", "adamw_bnb_8bit",
            "adamw_torch_4bit", "adamw_torch_8bit", "ademamix", "ademamix_8bit", "ao_adamw_4bit", "ao_adamw_8bit",
            "lion_32bit", "lion_8bit", "lion_pytorch", "muon", "paged_adamw_32bit", "paged_adamw_8bit",
            "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop",
            "rmsprop_bnb", "rmsprop_bnb_32bit", "rmsprop_bnb_8bit", "sgd",
        ),
    ] = "adamw_torch_fused"  # fmt: skip
    """How weights are moved: AdamW of torch (Loshchilov and Hutter 2019, arXiv 1711.05101), `_fused` in one kernel;
    `8bit` and `4bit` keep its state in fewer bits, `paged` in memory that the GPU may give away."""
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
            "cosine_with_restarts", "greedy", "inverse_sqrt", "log_sweep", "one_cycle", "polynomial",
            "reduce_lr_on_plateau", "rex", "warmup_stable_decay",
        ],
        Supported(
            "cosine", "linear", "constant", "constant_with_warmup", "cosine_warmup_with_min_lr", "cosine_with_min_lr",
            "cosine_with_restarts", "inverse_sqrt", "one_cycle", "polynomial", "rex", "warmup_stable_decay",
            why="the learning rate is a function of the step alone, while reduce_lr_on_plateau and greedy follow the "
            "loss and log_sweep searches for a learning rate",
        ),
    ] = "cosine"  # fmt: skip
    """Shape of the learning rate after warmup."""
    warmup_steps: NonNegativeInt | None = None
    """Steps of linear warmup; unset: by warmup_ratio, else 3 % of the steps and at most 100."""
    warmup_ratio: float | None = Field(default=None, ge=0, le=1)
    """Share of the steps that warm up."""
    cosine_min_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """Lowest learning rate of the schedules cosine and rex as a share of learning_rate; others take no notice of it."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are scaled down to this norm; 0 switches clipping off."""
    cosine_constant_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """Share of the steps after which cosine stays at its lowest, which cosine_min_lr_ratio gives; unset: it falls to
    the end."""
    lr_quadratic_warmup: bool | None = None
    """Raise the learning rate by the square of the step during the warmup of cosine, instead of linearly."""
    lr_scheduler_kwargs: dict[str, Any] | None = None
    """Settings of the lr_scheduler, named as transformers' get_..._schedule functions and torch's OneCycleLR name
    them."""
    lr_div_factor: Annotated[PositiveFloat | None, UNREAD] = None
    """What the highest learning rate is divided by to start from."""

    lr_groups: list[LrGroup] | None = None
    """Learning rates of their own for some modules."""
    embedding_lr: PositiveFloat | None = None
    """Learning rate of the embeddings, the output head and lora_modules_to_save, which then do not decay; unset:
    learning_rate."""
    embedding_lr_scale: PositiveFloat | None = None
    """The same as a multiple of learning_rate."""
    optim_args: str | dict[str, Any] | None = None
    """More arguments of the optimizer: a mapping, or text like `momentum=0.9,nesterov=true`."""
    optim_target_modules: Annotated[list[str] | Literal["all_linear"] | None, NotYet()] = None
    """Parts of the names of the linear layers that GaLore, Q-GaLore and APOLLO treat, or `all_linear`; unset: attn and
    mlp for Q-GaLore, while the others need it."""
    torchdistx_path: Annotated[str | None, NotYet()] = None
    """Folder of the package torchdistx, for adamw_anyprecision."""

    adam_beta3: Annotated[float | None, Field(ge=0, lt=1), NotYet()] = None
    """Decay of the instability's mean in came_pytorch (Luo et al. 2023, arXiv 2307.02047); unset: 0.9999."""
    adam_epsilon2: Annotated[PositiveFloat | None, NotYet()] = None
    """Added to the instability in came_pytorch; unset: 1e-16."""
    dion_lr: Annotated[PositiveFloat | None, NotYet()] = None
    """Learning rate of the weight matrices in dion (Ahn et al. 2025, arXiv 2504.05295), which needs it; learning_rate
    is that of all other weights."""
    dion_momentum: Annotated[float | None, Field(ge=0, lt=1), NotYet()] = None
    """Decay of dion's momentum; dion needs it."""
    dion_rank_fraction: Annotated[float | None, Field(gt=0, le=1), NotYet()] = 1.0
    """Rank of dion's updates as a share of the matrix's smaller side."""
    dion_rank_multiple_of: Annotated[PositiveInt | None, NotYet()] = 1
    """That rank is rounded up to a multiple of this."""
    qgalore_rank: Annotated[PositiveInt | None, NotYet()] = 256
    """Rank that q_galore_adamw8bit projects gradients to (Zhang et al. 2024, arXiv 2407.08296)."""
    qgalore_update_proj_gap: Annotated[PositiveInt | None, NotYet()] = 200
    """Steps from one computation of a projection to the next, at first."""
    qgalore_scale: Annotated[PositiveFloat | None, NotYet()] = 0.25
    """Factor of the update after it is projected back."""
    qgalore_proj_type: Annotated[Literal["std", "reverse_std", "right", "left", "full"] | None, NotYet()] = "std"
    """Side of a gradient that is projected: the shorter (std), the longer (reverse_std), the named one, or both
    (full)."""
    qgalore_proj_quant: Annotated[bool | None, NotYet()] = True
    """Keep projections as small integers."""
    qgalore_proj_bits: Annotated[int | None, Field(ge=1, le=8), NotYet()] = 4
    """Bits of such an integer."""
    qgalore_proj_group_size: Annotated[int | None, Field(ge=-1), NotYet()] = 256
    """Numbers that share a scale, -1 for all of a row; it must divide the projection's last dimension."""
    qgalore_cos_threshold: Annotated[float | None, Field(ge=-1, le=1), NotYet()] = 0.4
    """Cosine similarity of a projection to the one before from which on a layer counts as settled."""
    qgalore_gamma_proj: Annotated[PositiveInt | None, NotYet()] = 2
    """Factor by which the gap of a settled layer grows."""
    qgalore_queue_size: Annotated[PositiveInt | None, NotYet()] = 5
    """Last similarities that are averaged for that."""
    grokfast_alpha: Annotated[float | None, Field(ge=0, le=1), NotYet()] = 0.98
    """Decay of the moving average of gradients, the slow part, in Grokfast (Lee et al. 2024, arXiv 2405.20233)."""
    grokfast_lamb: Annotated[NonNegativeFloat | None, NotYet()] = 2.0
    """Multiple of that average which is added to each gradient."""
