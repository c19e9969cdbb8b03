"""Weights in fewer bits: of the frozen base while training, and of the model after it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from axo.recipe.section import PLACED, NotYet, Section

TorchAODType = Literal["int4", "int8", "float8_e4m3fn", "fp8", "float8", "nvfp4", "mxfp4"]


class QAT(Section):
    weight_dtype: TorchAODType = "int8"
    """Number format that the weights are rounded to in the forward pass."""
    activation_dtype: TorchAODType | None = None
    """Number format that the inputs of linear layers are rounded to in the forward pass; unset: not rounded."""
    group_size: PositiveInt | None = 32
    """Weights in a row that share one scale; a number format may prescribe it (nvfp4: 16, mxfp4: 32)."""
    quantize_embedding: bool | None = False
    """Round the embeddings too."""
    fake_quant_after_n_steps: NonNegativeInt | None = None
    """Optimizer steps before rounding begins; unset: from the first on."""


class PTQ(Section):
    weight_dtype: TorchAODType = "int8"
    """Number format of the weights."""
    activation_dtype: TorchAODType | None = None
    """Number format that the inputs of linear layers are rounded to when the model runs; unset: not rounded."""
    group_size: PositiveInt | None = 32
    """Weights in a row that share one scale; a number format may prescribe it (nvfp4: 16, mxfp4: 32)."""
    quantize_embedding: bool | None = None
    """Quantise the embeddings too."""


class LLMCompressor(Section):
    recipe: Any = None
    """A recipe of the package llm-compressor, as a mapping of stages or as text."""
    save_compressed: bool = False
    """Save the model in compressed form, which vLLM can load."""


class QuantizationSection(Section):
    load_in_8bit: bool = False
    """Store the base weights in 8 bits (bitsandbytes LLM.int8); for training with an adapter."""
    load_in_4bit: bool = False
    """Store the base weights in 4 bits (bitsandbytes NF4); for training with an adapter."""
    bnb_config_kwargs: dict[str, Any] | None = None
    """Settings of transformers' BitsAndBytesConfig that replace axo's, for example bnb_4bit_quant_type: fp4."""
    gptq: bool | None = None
    """The base model is quantised with GPTQ (Frantar et al. 2022, arXiv 2210.17323); for training with an adapter."""
    model_quantization_config: Annotated[Literal["Mxfp4Config", "FineGrainedFP8Config"] | None, NotYet()] = None
    """Class of transformers that says how a quantised checkpoint is read: in MXFP4, or in FP8 with a scale for each
    block."""
    model_quantization_config_kwargs: Annotated[dict[str, Any] | None, NotYet()] = None
    """Settings of model_quantization_config; `dequantize: true` turns the weights into 16 bits when they are loaded."""
    qlora_sharded_model_loading: Annotated[
        bool | None, PLACED
    ] = False  # fmt: skip
    """Quantise and shard a model layer by layer while it is loaded, for adapter: qlora under FSDP."""
    use_onebitllms: Annotated[bool | None, NotYet()] = None
    """Train a BitNet model with weights of three values (1.58 bits) through the package onebitllms (Ma et al. 2024,
    arXiv 2402.17764)."""

    qat: Annotated[QAT | None, NotYet()] = None
    """Train a model that will be quantised: the forward pass computes with rounded weights and inputs, while updates go
    to the exact ones."""
    quantization: Annotated[PTQ | None, NotYet()] = None
    """How the command quantize stores a trained model with torchao."""
    llmcompressor: Annotated[LLMCompressor | None, NotYet()] = None
    """Keep pruned weights at zero while training and save the model compressed, through the package llm-compressor."""

    quantize_moe_experts: bool = False
    """Quantise the experts of a mixture, which are no linear layers of their own, too, as load_in_4bit says."""
    nonexpert_quantization: Annotated[
        Literal["none", "bf16", "fp8", "fp8_blockwise", "nf4", "nvfp4"] | None, NotYet(off=("none", "bf16"))
    ] = None
    """Number format of the linear layers beside the experts of a mixture, where these are quantised; unset: as
    loaded."""
    gemma4_fp8_nonexpert: Annotated[bool | None, NotYet()] = None
    """Old way to say nonexpert_quantization: fp8_blockwise for Gemma 4."""
    gemma4_nf4_nonexpert: Annotated[bool | None, NotYet()] = None
    """Old way to say nonexpert_quantization: nf4 for Gemma 4."""
    dsv4_fp8_nonexpert_mode: Annotated[Literal["float8tensor", "bf16"] | None, NotYet()] = None
    """How DeepSeek-V4's weights beside the experts, published in FP8, are stored: as they are, or in bfloat16; unset:
    float8tensor."""
    dsv4_fp8_lora_kernel: Annotated[bool | None, NotYet()] = None
    """Compute the large attention projections of DeepSeek-V4 and their adapters in one kernel on FP8 weights."""
    dsv4_fp4_grouped_mode: Annotated[Literal["nvfp4"] | None, NotYet()] = None
    """Number format in which all experts of a mixture are multiplied in one grouped kernel; unset: they are turned into
    16 bits first."""
    nvfp4_merge_aware: Annotated[bool | None, NotYet()] = None
    """Round base weights plus adapter to NVFP4 in the forward pass as merge-lora will, so that merging does not lose
    what was learnt."""
    nvfp4_merge_aware_start_step: Annotated[
        NonNegativeInt | Annotated[float, Field(gt=0, lt=1)] | None, NotYet()
    ] = None  # fmt: skip
    """Step, or below 1 the share of all steps, from which nvfp4_merge_aware rounds; unset: the first."""
