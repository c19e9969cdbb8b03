"""How much of the model is trained: all of it, or low-rank adapters beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section, Supported


class LoftQ(Section):
    loftq_bits: Literal[2, 4, 8] = 4
    """Bits of the quantised base weights that the first values of the adapter make up for."""


class Peft(Section):
    loftq_config: LoftQ | None = None
    """Start the adapter from what quantising the base weights loses (LoftQ: Li et al. 2023, arXiv 2310.08659)."""


class MoRA(Section):
    use_mora: bool = True
    """Train one square matrix for each adapted layer instead of two low-rank ones (Jiang et al. 2024, arXiv
    2405.12130)."""
    mora_type: Literal["rope", "sharing", 1, 6] = "rope"
    """How inputs are compressed and outputs spread: `rope` (6) by rotation, `sharing` (1) by sharing of rows and
    columns."""


class AdapterSection(Section):
    adapter: Annotated[Literal["lora", "qlora", "llama-adapter", "mora"] | None, Supported("lora", "qlora")] = None
    """`lora` trains low-rank matrices beside frozen weights, `qlora` the same beside weights in 4 bits; unset: full
    fine-tuning."""
    lora_model_dir: str | None = None
    """Folder of a trained adapter: train goes on from it; merge-lora, inference and evaluate use it until a run that
    went on from it has left its own in output_dir. Unset: train starts a new one, the others use that in output_dir."""
    lora_r: PositiveInt | None = None
    """Rank of the low-rank matrices."""
    lora_alpha: float | None = Field(default=None, gt=0)
    """Scale of the adapter: its output is multiplied by lora_alpha / lora_r (rsLoRA: / sqrt(lora_r))."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the low-rank matrices while training."""
    lora_target_modules: str | list[str] | None = None
    """Modules that get an adapter: names, one regular expression over full names, or `all-linear`."""
    lora_target_linear: bool = False
    """Adapters on every linear layer except the output head, besides those of lora_target_modules."""
    lora_target_parameters: str | list[str] | None = None
    """Names of parameters that get an adapter though no module of their own computes with them, for example the experts
    of a layer that are stored as one tensor."""
    lora_modules_to_save: list[str] | None = None
    """Modules trained in full and saved with the adapter, e.g. embed_tokens and lm_head for new tokens."""
    lora_fan_in_fan_out: bool = False
    """Weights are stored (in, out), as in GPT-2's Conv1D."""
    lora_rank_pattern: dict[str, PositiveInt] | None = None
    """Module name or regular expression -> a rank of its own, instead of lora_r."""
    lora_alpha_pattern: dict[str, PositiveInt] | None = None
    """Module name or regular expression -> a scale of its own, instead of lora_alpha."""

    peft_use_rslora: bool = False
    """Rank-stabilised scale lora_alpha / sqrt(lora_r) (Kalajdzievski 2023, arXiv 2312.03732)."""
    peft_use_dora: bool | None = None
    """Train the length of each weight vector apart from its direction, which the adapter changes (DoRA: Liu et al.
    2024, arXiv 2402.09353)."""
    peft_init_lora_weights: Annotated[
        bool
        | Literal["gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal", "mica", "lora_ga"]
        | Annotated[str, Field(pattern=r"^pissa_niter_\d+$")]
        | None,
        Supported(
            *(None, True, False, "gaussian", "orthogonal", "pissa", "olora", "pissa_niter_4"),
            matching=r"pissa_niter_\d+",
            why="it looks at data, gradients or quantised weights before training begins, which axo does not do",
        ),
    ] = None
    """First values of the low-rank matrices; unset or true: A as a linear layer's, B zero, so that the adapter changes
    nothing at the start; false: both random; otherwise the name of a method in peft. With `pissa` and `olora` the
    adapter starts as a part of the weights, and is saved with twice the rank, as an adapter of the unchanged model."""
    peft_layers_to_transform: list[NonNegativeInt] | None = None
    """Indices (from 0) of the layers that get adapters; unset: all."""
    peft_layers_pattern: list[str] | None = None
    """Names of the lists that peft_layers_to_transform counts in, where the model's is not called as usual, for example
    layers or h."""
    peft_layer_replication: Annotated[list[tuple[NonNegativeInt, NonNegativeInt]] | None, NotYet()] = None
    """Ranges [first, end) of layers that are stacked to a deeper model which shares the base weights, each copy with an
    adapter of its own; such an adapter cannot be merged, nor used by anything but peft, so axo refuses it."""
    peft_trainable_token_indices: list[NonNegativeInt] | dict[str, list[NonNegativeInt]] | None = None
    """Token ids whose embeddings are trained beside the adapter, of embed_tokens or of the embeddings that a mapping
    names."""
    peft_ensure_weight_tying: Annotated[bool | None, NoEffect("tied weights always stay tied", only=(True,))] = None
    """Weights that the model ties (embeddings and output head) stay tied in what is trained."""
    peft_autocast_adapter_dtype: Annotated[bool | None, NotYet(off=(True,))] = None
    """Keep the adapter in float32 beside a base model in 16 bits; unset: true."""
    peft: Annotated[Peft | None, NotYet()] = None
    """Further settings of peft."""

    loraplus_lr_ratio: PositiveFloat | None = None
    """Learning rate of the matrices B as a multiple of that of the matrices A (LoRA+: Hayou et al. 2024, arXiv
    2402.12354); 16 is recommended."""
    loraplus_lr_embedding: NonNegativeFloat | None = 1e-06
    """Learning rate of adapters on embeddings under loraplus_lr_ratio."""
    merge_method: Annotated[
        Literal["legacy", "memory_efficient"] | None, NoEffect("adapters are always merged shard by shard")
    ] = "memory_efficient"
    """How merge-lora works: `memory_efficient` goes through the weights file by file, `legacy` loads the whole
    model."""

    relora: Annotated[bool | None, NotYet()] = None
    """Merge the adapter into the base every jagged_restart_steps steps and begin a new one (ReLoRA: Lialin et al. 2023,
    arXiv 2307.05695)."""
    relora_prune_ratio: Annotated[float | None, Field(ge=0, le=1), NotYet()] = None
    """Share of the optimizer's state that is set to zero at each restart; unset: 0.9, for the method `reset` 0.999."""
    relora_prune_method: Annotated[Literal["magnitude", "random", "reset"] | None, NotYet()] = "magnitude"
    """Which values of the optimizer's state are set to zero at a restart: the smallest, random ones, or (`reset`)
    nearly all."""
    relora_cpu_offload: Annotated[bool | None, NotYet()] = None
    """Merge on the CPU at each restart, which saves GPU memory."""
    jagged_restart_steps: Annotated[PositiveInt | None, NotYet()] = None
    """Steps from one restart of the learning rate (and of ReLoRA's adapter) to the next."""
    jagged_restart_warmup_steps: Annotated[NonNegativeInt | None, NotYet()] = None
    """Steps in which the learning rate rises again after a restart; unset: 10."""
    jagged_restart_anneal_steps: Annotated[NonNegativeInt | None, NotYet()] = None
    """Steps in which the learning rate falls before a restart; unset: 1."""

    unfrozen_parameters: list[str] | None = None
    """Regular expressions for the beginnings of names of parameters, in which dots are dots; what they match is trained
    and all else frozen. A range at the end, as in model.embed_tokens.weight$[32000:], trains only these rows."""
    lisa_n_layers: Annotated[PositiveInt | None, NotYet()] = None
    """Layers that are trained at a time, drawn anew again and again, while the others are frozen (LISA: Pan et al.
    2024, arXiv 2403.17919)."""
    lisa_step_interval: Annotated[PositiveInt | None, NotYet()] = None
    """Steps after which LISA draws other layers."""
    lisa_layers_attribute: Annotated[str | None, NotYet()] = "model.layers"
    """Where the model keeps the list of layers that LISA draws from."""
    spectrum_top_fraction: Annotated[float | None, Field(gt=0, le=1), NotYet()] = 0.5
    """Share of the layers of each kind that is trained: those with the highest ratio of signal to noise (Spectrum:
    Hartford et al. 2024, arXiv 2406.06623)."""
    spectrum_model_name: Annotated[str | None, NotYet()] = None
    """Model whose published ratios of signal to noise Spectrum uses; unset: base_model."""
    mora: Annotated[MoRA | None, NotYet()] = None
    """Settings of adapter: mora."""
