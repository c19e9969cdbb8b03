"""Weights in fewer bits: of the frozen base while training, and of the model after it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from axo.recipe.section import NoEffect, NotYet, Section, Supported

TorchAODType = Literal["int4", "int8", "float8_e4m3fn", "fp8", "float8", "nvfp4", "mxfp4"]


class QAT(Section):
    activation_dtype: TorchAODType | None = None
    """."""
    weight_dtype: TorchAODType = "int8"
    """."""
    quantize_embedding: bool | None = False
    """."""
    group_size: int | None = 32
    """."""
    fake_quant_after_n_steps: int | None = None
    """."""


class PTQ(Section):
    weight_dtype: TorchAODType = "int8"
    """."""
    activation_dtype: TorchAODType | None = None
    """."""
    quantize_embedding: bool | None = None
    """."""
    group_size: int | None = 32
    """."""


class LLMCompressor(Section):
    recipe: Any = None
    """."""
    save_compressed: bool = False
    """."""


class QuantizationSection(Section):
    load_in_8bit: Annotated[bool, Supported(False)] = False
    """Store the base weights in 8 bits (bitsandbytes LLM.int8); for training with an adapter."""
    load_in_4bit: Annotated[bool, Supported(False)] = False
    """Store the base weights in 4 bits (bitsandbytes NF4); for training with an adapter."""
    model_quantization_config: Annotated[Literal["Mxfp4Config", "FineGrainedFP8Config"] | None, NotYet()] = None
    """."""
    model_quantization_config_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    use_onebitllms: Annotated[bool | None, NotYet()] = None
    """."""
    qlora_sharded_model_loading: Annotated[
        bool | None, NoEffect("the Plan decides where tensors are and in which type")
    ] = False
    """."""
    gptq: Annotated[bool | None, NotYet()] = None
    """."""
    bnb_config_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """."""
    qat: Annotated[QAT | None, NotYet()] = None
    """."""
    quantization: Annotated[PTQ | None, NotYet()] = None
    """."""
    quantize_moe_experts: Annotated[bool, NotYet()] = False
    """."""
    nonexpert_quantization: Annotated[str | None, NotYet()] = None
    """."""
    dsv4_fp8_nonexpert_mode: Annotated[str | None, NotYet()] = None
    """."""
    dsv4_fp8_lora_kernel: Annotated[bool | None, NotYet()] = None
    """."""
    dsv4_fp4_grouped_mode: Annotated[str | None, NotYet()] = None
    """."""
    gemma4_fp8_nonexpert: Annotated[bool | None, NotYet()] = None
    """."""
    gemma4_nf4_nonexpert: Annotated[bool | None, NotYet()] = None
    """."""
    nvfp4_merge_aware: Annotated[bool | None, NotYet()] = None
    """."""
    nvfp4_merge_aware_start_step: Annotated[int | float | None, NotYet()] = None
    """."""
    llmcompressor: Annotated[LLMCompressor | None, NotYet()] = None
    """."""
