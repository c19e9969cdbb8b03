"""In which number formats weights are stored and computed, and what is recomputed to save memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from axo.recipe.section import NoEffect, NotYet, Ours, Section, Supported


class SelectiveCheckpointing(Section):
    save: list[str] = Field(default_factory=lambda: ["attention"])
    """."""
    save_sliding_window: bool = False
    """."""
    recompute_layer_types: list[str] | None = None
    """."""
    offload: bool = False
    """."""


class PrecisionSection(Section):
    bf16: bool | Literal["auto", "full"] = "auto"
    """Compute in bfloat16; `auto`: where the device computes it natively, on a CPU float32."""
    fp16: Annotated[bool | None, Supported(False)] = None
    """Compute in float16 with loss scaling, for devices without bfloat16."""
    tf32: bool | Literal["auto"] = "auto"
    """TensorFloat-32 matrix products of float32 on NVIDIA GPUs; `auto`: allowed where bf16 is computed."""
    master_weights: Annotated[Literal["float32"] | None, Ours()] = None
    """`float32` keeps trained weights in float32 and computes in bfloat16; unset: as computed (adapters: float32)."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""
    lora_on_cpu: Annotated[bool | None, NoEffect("the Plan decides where tensors are and in which type")] = None
    """."""
    torch_empty_cache_steps: Annotated[int | None, NoEffect("it would change speed or memory, not what is learnt")] = (
        None
    )
    """."""
    gc_collect_steps: Annotated[int | None, NoEffect("it would change speed or memory, not what is learnt")] = None
    """."""
    fp8: Annotated[bool | None, NotYet()] = None
    """."""
    fp8_enable_fsdp_float8_all_gather: Annotated[bool | None, NotYet()] = None
    """."""
    float16: Annotated[bool | None, NotYet()] = None
    """."""
    gradient_checkpointing_kwargs: Annotated[
        dict[str, Any] | None, NoEffect("recomputation never re-enters autograd")
    ] = None
    """."""
    selective_checkpointing: Annotated[SelectiveCheckpointing | bool | None, NotYet()] = None
    """."""
    activation_offloading: Annotated[Literal["legacy", "disk", "hidden_states"] | bool | None, NotYet()] = False
    """."""
    layer_offloading: Annotated[bool | None, NotYet()] = False
    """."""
    fp32_norms: Annotated[bool | None, NotYet()] = None
    """."""
    fp32_norm_classes: Annotated[list[str] | None, NotYet()] = None
    """."""
    max_memory: Annotated[dict[int | Literal["cpu", "disk"], int | str] | None, NotYet()] = None
    """."""
    gpu_memory_limit: Annotated[int | str | None, NotYet()] = None
    """."""
    low_cpu_mem_usage: Annotated[bool | None, NoEffect("the Plan decides where tensors are and in which type")] = None
    """."""
