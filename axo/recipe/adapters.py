"""How much of the model is trained: all of it, or low-rank adapters beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from axo.recipe.section import Section


class AdapterSection(Section):
    adapter: Literal["lora"] | None = None
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
