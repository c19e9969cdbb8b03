"""Faster ways of computing the same, and settings of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PositiveInt

from axo.recipe.section import FASTER, LEANER, NoEffect, NotYet, Section, Supported

NO_HOOK = NoEffect("transformers has no place where such a kernel could be put in; the results are equal without it")
WHOLE_PROCESS = NoEffect("Liger would put it into every model of the process; transformers' own code computes the same")
CHUNKED = NoEffect("chunked_cross_entropy computes the same loss in as little memory, and is on where it can be")

InductorOption = Literal[
    "coordinate_descent_tuning", "coordinate_descent_check_all_directions", "shape_padding", "epilogue_fusion",
    "max_autotune_gemm", "fx_graph_cache", "assume_aligned_inputs", "comprehensive_padding", "decompose_mem_bound_mm",
    "triton.cudagraphs",
]  # fmt: skip
"""Settings of torch._inductor.config that Axolotl lets through."""


class KernelSection(Section):
    torch_compile: Literal["auto"] | bool | None = None
    """Compile each decoder layer with torch.compile; `auto`: on a GPU."""
    torch_compile_backend: str | None = None
    """What compiles under torch_compile; unset: inductor."""
    torch_compile_mode: Annotated[
        Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None,
        Supported(
            "default",
            "max-autotune-no-cudagraphs",
            why="CUDA graphs write each result to the place of the one before, which accumulation may still need",
        ),
    ] = None
    """What torch.compile trades for speed: `reduce-overhead` memory, `max-autotune` time to compile."""
    torch_compile_options: dict[InductorOption, bool | int | float | str] | None = None
    """Settings of torch.compile's backend inductor."""

    lora_mlp_kernel: bool | None = None
    """Let feed-forward layers with LoRA keep only their input, and compute gate and up again in the backward pass;
    unset: no, though Axolotl does so where it can."""
    lora_qkv_kernel: Annotated[bool | None, NO_HOOK] = None
    """Compute query, key and value with adapters in a fused kernel; unset: where it fits."""
    lora_o_kernel: Annotated[bool | None, NO_HOOK] = None
    """Compute attention's output projection with its adapter in a fused kernel; unset: where it fits."""
    lora_embedding_kernel: Annotated[bool | None, NO_HOOK] = None
    """Compute embeddings with an adapter in a fused kernel; unset: where it fits."""

    liger_rope: Annotated[bool | None, WHOLE_PROCESS] = None
    """Rotary positions by Liger's kernel (Hsu et al. 2024, arXiv 2410.10989)."""
    liger_rms_norm: bool | None = None
    """RMSNorm by Liger's kernel."""
    liger_rms_norm_gated: Annotated[bool | None, FASTER] = None
    """RMSNorm with a gate, as in linear attention of Qwen 3.5, by a fused kernel."""
    liger_layer_norm: bool | None = None
    """LayerNorm by Liger's kernel."""
    liger_glu_activation: bool | None = None
    """Gated activations of feed-forward layers (SwiGLU, GeGLU) by Liger's kernel."""
    liger_swiglu: bool | None = None
    """Old name of liger_glu_activation."""
    liger_cross_entropy: Annotated[bool | None, CHUNKED] = None
    """Cross-entropy by Liger's kernel, from whole logits."""
    liger_fused_linear_cross_entropy: Annotated[bool | None, CHUNKED] = None
    """Output head and cross-entropy by Liger's kernel in pieces, without whole logits in memory."""
    cut_cross_entropy: Annotated[bool | None, CHUNKED] = None
    """Output head and cross-entropy in one kernel, without logits in memory (Wijmans et al. 2024, arXiv 2411.09009)."""

    flash_attn_cross_entropy: Annotated[bool | None, CHUNKED] = None
    """Cross-entropy by the kernel of the package flash-attn."""
    flash_attn_rms_norm: Annotated[bool | None, FASTER] = None
    """RMSNorm by the kernel of the package flash-attn."""
    flash_attn_fuse_mlp: Annotated[bool | None, FASTER] = None
    """Feed-forward layers of Llama by the fused SwiGLU of xformers."""
    flash_optimum: Annotated[bool | None, FASTER] = None
    """Replace layers by those of BetterTransformer."""
    fused_attn_kernel: Annotated[bool | None, FASTER] = None
    """Normalise and rotate queries and keys in one kernel, for Qwen 3 and its successors."""
    flex_attn_compile_kwargs: Annotated[dict[str, Any] | None, FASTER] = None
    """Arguments of torch.compile for attn_implementation: flex_attention, for example mode and dynamic."""
    tiled_mlp: Annotated[bool | None, LEANER] = None
    """Compute feed-forward layers in pieces along the sequence, for very long ones (Bekman et al. 2025, arXiv
    2506.13996)."""
    tiled_mlp_num_shards: Annotated[PositiveInt | None, LEANER] = None
    """Number of pieces under tiled_mlp; unset: by the length of the sequence."""
    tiled_mlp_use_original_mlp: Annotated[bool | None, FASTER] = True
    """Compute each piece with the model's own feed-forward layer; false: with a general one like Llama's."""

    large_head_attention: Annotated[Literal["sdpa", "auto", "triton_flash"] | None, NotYet(off=("sdpa",))] = None
    """Attention of layers with more than 256 channels a head: by torch (`sdpa`), or by a Triton kernel, always or
    (`auto`) for packed rows; unset: sdpa."""
    flash_attn_d512: Annotated[bool | None, NotYet()] = None
    """Old way to say large_head_attention: auto."""
    gemma4_hybrid_attn_impl: Annotated[bool | None, NotYet()] = None
    """Compute the sliding-window layers of Gemma 4 with flash_attention_2 and its global ones, whose heads are too
    large for that, with sdpa."""
    scaling_softmax: Annotated[bool | None, NotYet()] = None
    """Multiply attention scores by the logarithm of the number of keys (SSMax: Nakanishi 2025, arXiv 2501.19399)."""
    scaling_softmax_factor: Annotated[float | None, NotYet()] = None
    """Factor of the logarithm under scaling_softmax; unset: 0.43."""
    scaling_softmax_bias: Annotated[float | None, NotYet()] = None
    """Added to factor times logarithm under scaling_softmax; unset: 0."""

    expert_backend: Annotated[
        Literal["scattermoe", "sonicmoe", "eager", "builtin"] | None, NotYet(off=("eager", "builtin"))
    ] = None
    """What computes the experts of a mixture: kernels by name, or transformers' own code; unset: the latter."""
    experts_implementation: Annotated[
        Literal[
            "eager", "batched_mm", "grouped_mm", "deepgemm", "scattermoe", "sonicmoe",
            "deep_ep", "deep_ep_grouped_mm", "deep_ep_scattermoe", "deep_ep_sonicmoe",
        ]
        | None,
        NoEffect("transformers chooses a way that suits the machine", only=("eager", "batched_mm", "grouped_mm")),
    ] = None  # fmt: skip
    """How the experts of a mixture are multiplied: one after the other (`eager`), in batched or grouped products, or by
    a library of kernels."""
    use_scattermoe: Annotated[bool | None, NotYet()] = None
    """The same as expert_backend: scattermoe (Tan et al. 2024, arXiv 2403.08245)."""
    use_sonicmoe: Annotated[bool | None, NotYet()] = None
    """The same as expert_backend: sonicmoe."""
    moe_grouped_backend: Annotated[Literal["auto", "marlin", "cutlass", "deepgemm"] | None, NotYet(off=("auto",))] = (
        None
    )
    """Library whose kernels multiply all experts at once under dsv4_fp4_grouped_mode; unset: the best that is there."""
    moe_dequant_chunk_size: Annotated[PositiveInt | None, NotYet()] = None
    """Quantised experts that are turned into 16 bits at a time: more is faster and takes more memory."""
    moe_bnb_fast: Annotated[bool | None, NotYet()] = None
    """Compute experts in 4 bits in one call instead of in pieces; unset: true."""
    dense_mixer: Annotated[bool, NotYet()] = False
    """Compute all experts in the forward pass, so that the router's gradient is exact, though only the chosen ones
    count."""
    use_dsv4_kernels: Annotated[bool | None, NotYet()] = None
    """Compute attention, rotary positions and hyper-connections of DeepSeek-V4 in fused kernels."""
    dsv4_shared_mlp_lora_kernel: Annotated[bool | None, NotYet()] = None
    """Compute the shared experts of DeepSeek-V4 with their adapters in a fused kernel."""
    dsv4_bf16_all: Annotated[bool | None, NotYet()] = None
    """Turn parameters of DeepSeek-V4 that would stay in float32 into the type that is computed in, for fused
    kernels."""
    use_glm_dsa_kernels: Annotated[bool | None, NotYet()] = None
    """Compute GLM's sparse attention and its indexer in fused kernels."""
