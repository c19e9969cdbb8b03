"""Which model is trained and how its attention is computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from axo.recipe.section import NoEffect, NotYet, Section, Supported


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
    attn_implementation: Annotated[
        Literal[
            "eager", "sdpa", "flash_attention_2", "sdpa_varlen", "flash_attention_3", "flash_attention_4",
            "flex_attention", "xformers", "sage", "fp8", "kernels-community/flash-attn",
            "kernels-community/flash-attn2", "kernels-community/flash-attn3", "kernels-community/vllm-flash-attn3",
            "kernels-community/sage-attention",
        ]
        | None,
        Supported("eager", "sdpa", "flash_attention_2", "sdpa_varlen"),
    ] = None  # fmt: skip
    """How attention is computed; unset: flash_attention_2 on a GPU that has it, else sdpa_varlen (one call for each
    length of samples, no mask)."""
    reinit_weights: bool = False
    """Start from random weights (from `seed`) in the shape of base_model instead of its weights."""
    cls_model_config: Annotated[str | None, NotYet()] = None
    """."""
    experimental_skip_move_to_device: Annotated[
        bool | None, NoEffect("the Plan decides where tensors are and in which type")
    ] = True
    """."""
    use_kernels: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    overrides_of_model_config: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    model_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    rope_scaling: Annotated[Any | None, NotYet()] = None
    """."""
    llama4_linearized_experts: Annotated[bool | None, NotYet()] = None
    """."""
    is_falcon_derived_model: Annotated[bool | None, NoEffect("the config of the model says it")] = None
    """."""
    is_llama_derived_model: Annotated[bool | None, NoEffect("the config of the model says it")] = None
    """."""
    is_mistral_derived_model: Annotated[bool | None, NoEffect("the config of the model says it")] = None
    """."""
    is_qwen_derived_model: Annotated[bool | None, NoEffect("the config of the model says it")] = None
    """."""
