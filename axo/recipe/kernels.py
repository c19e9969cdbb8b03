"""Faster ways of computing the same, and settings of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from axo.recipe.section import NoEffect, NotYet, Section


class KernelSection(Section):
    flash_attn_rms_norm: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    flex_attn_compile_kwargs: Annotated[
        dict[str, Any] | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    flash_attn_cross_entropy: Annotated[
        bool | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    flash_attn_fuse_mlp: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    flash_optimum: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    gemma4_hybrid_attn_impl: Annotated[bool | None, NotYet()] = None
    """."""
    large_head_attention: Annotated[str | None, NotYet()] = None
    """."""
    flash_attn_d512: Annotated[bool | None, NotYet()] = None
    """."""
    fused_attn_kernel: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    experts_implementation: Annotated[str | None, NotYet()] = None
    """."""
    scaling_softmax: Annotated[bool | None, NotYet()] = None
    """."""
    scaling_softmax_factor: Annotated[float | None, NotYet()] = None
    """."""
    scaling_softmax_bias: Annotated[float | None, NotYet()] = None
    """."""
    lora_mlp_kernel: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    lora_qkv_kernel: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    lora_o_kernel: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    lora_embedding_kernel: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = (
        None
    )
    """."""
    tiled_mlp: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    tiled_mlp_num_shards: Annotated[int | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    tiled_mlp_use_original_mlp: Annotated[
        bool | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = True
    """."""
    torch_compile: Annotated[
        Literal["auto"] | bool | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    torch_compile_backend: Annotated[str | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    torch_compile_mode: Annotated[
        Literal["default", "reduce-overhead", "max-autotune"] | None,
        NoEffect("it would change speed or memory, not what is learnt"),
    ] = None
    """."""
    torch_compile_options: Annotated[
        dict[str, bool | int | float | str] | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    liger_rope: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_rms_norm: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_rms_norm_gated: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_layer_norm: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_swiglu: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_glu_activation: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_cross_entropy: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    liger_fused_linear_cross_entropy: Annotated[
        bool | None, NoEffect("it would change speed or memory, not what is learnt")
    ] = None
    """."""
    cut_cross_entropy: Annotated[bool | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    expert_backend: Annotated[str | None, NotYet()] = None
    """."""
    moe_grouped_backend: Annotated[str | None, NotYet()] = None
    """."""
    moe_dequant_chunk_size: Annotated[int | None, NotYet()] = None
    """."""
    moe_bnb_fast: Annotated[bool | None, NotYet()] = None
    """."""
    use_scattermoe: Annotated[bool | None, NotYet()] = None
    """."""
    use_sonicmoe: Annotated[bool | None, NotYet()] = None
    """."""
    use_dsv4_kernels: Annotated[bool | None, NotYet()] = None
    """."""
    use_glm_dsa_kernels: Annotated[bool | None, NotYet()] = None
    """."""
    dsv4_shared_mlp_lora_kernel: Annotated[bool | None, NotYet()] = None
    """."""
    dsv4_bf16_all: Annotated[bool | None, NotYet()] = None
    """."""
    dense_mixer: Annotated[bool, NotYet()] = False
    """."""
