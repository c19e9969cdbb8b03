"""How much of the model is trained: all of it, or low-rank adapters beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import NoEffect, NotYet, Section, Supported


class LoftQ(Section):
    loftq_bits: int = 4
    """."""


class Peft(Section):
    loftq_config: LoftQ | None = None
    """."""


class MoRA(Section):
    use_mora: bool = True
    """."""
    mora_type: Literal["rope", "sharing", "none"] = "rope"
    """."""


class AdapterSection(Section):
    adapter: Annotated[Literal["lora", "qlora", "llama-adapter", "mora"] | None, Supported("lora")] = None
    """`lora` trains low-rank matrices beside frozen weights; unset: full fine-tuning."""
    lora_model_dir: str | None = None
    """Folder of a trained adapter for merge-lora, inference and evaluate; unset: output_dir."""
    lora_r: PositiveInt | None = None
    """Rank of the low-rank matrices."""
    lora_alpha: float | None = Field(default=None, gt=0)
    """Scale of the adapter: its output is multiplied by lora_alpha / lora_r (rsLoRA: / sqrt(lora_r))."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the low-rank matrices while training."""
    lora_target_modules: str | list[str] | None = None
    """Modules that get an adapter: names, one regular expression over full names, or `all-linear`."""
    lora_target_linear: bool = False
    """Adapters on every linear layer except the output head."""
    lora_modules_to_save: list[str] | None = None
    """Modules trained in full and saved with the adapter, e.g. embed_tokens and lm_head for new tokens."""
    lora_fan_in_fan_out: bool = False
    """Weights are stored (in, out), as in GPT-2's Conv1D."""
    peft_use_rslora: bool = False
    """Rank-stabilised scale lora_alpha / sqrt(lora_r) (Kalajdzievski 2023, arXiv 2312.03732)."""
    lora_target_parameters: Annotated[str | list[str] | None, NotYet()] = None
    """."""
    lora_rank_pattern: Annotated[dict[str, PositiveInt] | None, NotYet()] = None
    """Module name or regular expression -> a rank of its own, instead of lora_r."""
    lora_alpha_pattern: Annotated[dict[str, PositiveInt] | None, NotYet()] = None
    """."""
    peft_layers_to_transform: Annotated[list[int] | None, NotYet()] = None
    """."""
    peft_layers_pattern: Annotated[list[str] | None, NotYet()] = None
    """."""
    peft: Annotated[Peft | None, NotYet()] = None
    """."""
    peft_use_dora: Annotated[bool | None, NotYet()] = None
    """."""
    peft_layer_replication: Annotated[list[tuple[int, int]] | None, NotYet()] = None
    """."""
    peft_init_lora_weights: Annotated[bool | str | None, NotYet(off=(True,))] = None
    """."""
    peft_trainable_token_indices: Annotated[list[int] | dict[str, list[int]] | None, NotYet()] = None
    """."""
    peft_ensure_weight_tying: Annotated[bool | None, NotYet()] = None
    """."""
    peft_autocast_adapter_dtype: Annotated[bool | None, NotYet(off=(True,))] = None
    """."""
    loraplus_lr_ratio: Annotated[float | None, NotYet()] = None
    """."""
    loraplus_lr_embedding: Annotated[float | None, NotYet()] = 1e-06
    """."""
    merge_method: Annotated[
        Literal["legacy", "memory_efficient"] | None, NoEffect("adapters are always merged shard by shard")
    ] = "memory_efficient"
    """."""
    relora: Annotated[bool | None, NotYet()] = None
    """."""
    relora_prune_ratio: Annotated[float | None, NotYet()] = None
    """."""
    relora_prune_method: Annotated[Literal["magnitude", "random", "reset"] | None, NotYet()] = "magnitude"
    """."""
    relora_cpu_offload: Annotated[bool | None, NotYet()] = None
    """."""
    jagged_restart_steps: Annotated[int | None, NotYet()] = None
    """."""
    jagged_restart_warmup_steps: Annotated[int | None, NotYet()] = None
    """."""
    jagged_restart_anneal_steps: Annotated[int | None, NotYet()] = None
    """."""
    lisa_n_layers: Annotated[int | None, NotYet()] = None
    """."""
    lisa_step_interval: Annotated[int | None, NotYet()] = None
    """."""
    lisa_layers_attribute: Annotated[str | None, NotYet()] = "model.layers"
    """."""
    unfrozen_parameters: Annotated[list[str] | None, NotYet()] = None
    """."""
    mora: Annotated[MoRA | None, NotYet()] = None
    """."""
    spectrum_top_fraction: Annotated[float | None, NotYet()] = 0.5
    """."""
    spectrum_model_name: Annotated[str | None, NotYet()] = None
    """."""
