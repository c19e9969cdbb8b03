"""Which model is trained and how its attention is computed."""

from __future__ import annotations

from typing import Literal

from axo.recipe.section import Section


class ModelSection(Section):
    base_model: str
    """Folder or hub name of the model to start from."""
    base_model_config: str | None = None
    """Folder or hub name of the config, where it differs from base_model."""
    revision_of_model: str | None = None
    """Branch, tag or commit of a hub model."""
    model_type: Literal[
        "AutoModelForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
        "GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM", "MixtralForCausalLM",
    ] | None = None  # fmt: skip
    """Class of the model; must be the one that the model's config names. Unset: taken from the config."""
    trust_remote_code: bool = False
    """Run Python code that comes with a hub model or tokenizer."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "sdpa_varlen"] | None = None
    """How attention is computed; unset: flash_attention_2 on a GPU that has it, else sdpa_varlen (one call for each
    length of samples, no mask)."""
    reinit_weights: bool = False
    """Start from random weights (from `seed`) in the shape of base_model instead of its weights."""
