"""Which model is trained and how its attention is computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from axo.recipe.section import FASTER, PLACED, NoEffect, NotYet, Section, Supported

ModelClass = Annotated[
    str,
    Field(
        pattern=r"^[A-Z]\w*("
        r"ForCausalLM|LMHeadModel|WithLMHead|ForConditionalGeneration|ForSeq2SeqLM|ForImageTextToText|ForMultimodalLM|"
        r"ForVision2Seq|ForSequenceClassification|ForTokenClassification)$"
    ),
]
"""A class of transformers, or of code that comes with a model, that computes logits: its name ends in its task."""
HubKernel = Annotated[str, Field(pattern=r"^[\w.|-]+/[\w./-]+(@[\w./-]+)?(:\w+)?$")]
"""A repository of kernels on the hub: `owner/name`, `owner/name@revision`, `owner/name:function`."""

_CONFIG_SAYS = NoEffect("the config of the model says it")


class ModelSection(Section):
    base_model: str
    """Folder or hub name of the model to start from."""
    base_model_config: str | None = None
    """Folder or hub name of the config, where it differs from base_model."""
    revision_of_model: str | None = None
    """Branch, tag or commit of a hub model; unset: its main branch."""
    model_type: Annotated[
        ModelClass | None,
        Supported(
            "AutoModelForCausalLM",
            "LlamaForCausalLM",
            "GPT2LMHeadModel",
            matching=r"(?!Auto)\w+(ForCausalLM|LMHeadModel|WithLMHead|ForConditionalGeneration)",
            data=True,
        ),
    ] = None
    """Class of the model; must be the one that the model's config names. Unset: taken from the config."""
    cls_model_config: Annotated[str, Field(pattern=r"^[A-Z]\w*Config$")] | None = None
    """Class of transformers that reads the model's config, for example Gemma3TextConfig for the text part of a model
    that also sees images; unset: the one for its model_type."""
    trust_remote_code: bool = False
    """Run Python code that comes with a hub model or tokenizer."""
    attn_implementation: Annotated[
        Literal[
            "eager", "sdpa", "flash_attention_2", "sdpa_varlen", "flash_attention_3", "flash_attention_4",
            "flex_attention", "xformers", "sage", "fp8", "kernels-community/flash-attn",
            "kernels-community/flash-attn2", "kernels-community/flash-attn3", "kernels-community/vllm-flash-attn3",
            "kernels-community/sage-attention",
        ]
        | HubKernel
        | None,
        Supported(
            "eager", "sdpa", "sdpa_varlen", "flash_attention_2", "flash_attention_3", "flash_attention_4",
            "flex_attention", "xformers",
            why="sage and fp8 attention have no backward pass, and axo loads no kernels from the hub",
        ),
    ] = None  # fmt: skip
    """How attention is computed; unset: the newest flash attention that is installed and made for the GPU, else
    sdpa_varlen (no mask: one call for all samples on a GPU in 16 bits, else one for each length of samples). sage and
    fp8 have no backward pass; a name with a slash is a repository of kernels on the hub, which axo does not load."""
    reinit_weights: bool = False
    """Start from random weights (from `seed`) in the shape of base_model instead of its weights."""
    overrides_of_model_config: dict[str, Any] | None = None
    """Entries that replace those of the model's config before it is built, for example rope_parameters, sliding_window
    or attention_dropout; mappings are merged into the config's. They are saved with the trained model."""
    model_kwargs: dict[str, Any] | None = None
    """Further arguments of transformers' from_pretrained when the base model is loaded, for example
    experts_implementation or subfolder."""
    rope_scaling: dict[str, Any] | None = None
    """How rotary positions are stretched for long texts: rope_type (linear, dynamic, yarn, longrope, llama3) and its
    entries, such as factor; the same as rope_parameters inside overrides_of_model_config."""
    llama4_linearized_experts: Annotated[bool | None, NotYet()] = None
    """The checkpoint holds each expert of Llama 4 as linear layers of its own, which can be quantised one by one,
    instead of one tensor for all."""
    use_kernels: Annotated[bool | None, FASTER] = None
    """Replace layers of the model by kernels from the hub that compute the same."""
    experimental_skip_move_to_device: Annotated[bool | None, PLACED] = True
    """Leave the model where it was loaded until it is sharded, instead of moving it whole to one GPU first."""
    is_falcon_derived_model: Annotated[bool | None, _CONFIG_SAYS] = None
    """The model has the architecture of Falcon."""
    is_llama_derived_model: Annotated[bool | None, _CONFIG_SAYS] = None
    """The model has the architecture of Llama."""
    is_mistral_derived_model: Annotated[bool | None, _CONFIG_SAYS] = None
    """The model has the architecture of Mistral."""
    is_qwen_derived_model: Annotated[bool | None, _CONFIG_SAYS] = None
    """The model has the architecture of the first Qwen."""
