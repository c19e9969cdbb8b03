"""In which number formats weights are stored and computed, and what is recomputed to save memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from axo.recipe.section import FASTER, LEANER, PLACED, NoEffect, NotYet, Ours, Section, Supported


class GradientCheckpointingKwargs(Section):
    use_reentrant: bool | None = None
    """Recompute by entering autograd again in the backward pass (the older way) instead of within the same graph."""
    preserve_rng_state: Annotated[bool | None, NotYet(off=(True,))] = None
    """Draw the same random numbers (dropout) when a layer is recomputed; unset: true."""
    determinism_check: Annotated[
        Literal["default", "none"] | None, NoEffect("recomputed tensors are always checked")
    ] = None
    """Check shapes, types and devices of recomputed tensors against the first pass (`default`), or not (`none`)."""
    early_stop: Annotated[bool | None, FASTER] = None
    """End a recomputation as soon as everything that is needed is there; unset: true."""
    debug: Annotated[bool | None, NotYet()] = None
    """Show the operators of both passes where they differ."""


class SelectiveCheckpointing(Section):
    save: list[str] = Field(default_factory=lambda: ["attention"])
    """Operators whose results are kept: `attention`, or parts of names of torch operators, for example aten::mm."""
    save_sliding_window: bool = False
    """Keep results of sliding-window attention too, in models that mix it with full attention."""
    recompute_layer_types: list[str] | None = None
    """Types of layers, as in the config's layer_types, whose attention is recomputed; unset: sliding_attention and
    chunked_attention."""
    offload: Annotated[bool, NotYet()] = False
    """Hold what is kept in CPU memory until the backward pass."""


class PrecisionSection(Section):
    bf16: bool | Literal["auto", "full"] = "auto"
    """Compute in bfloat16; `auto`: where the device computes it natively, else as fp16 says, on a CPU in float32;
    `full` is the same as true: weights are stored in it either way (master_weights), adapters in float32."""
    fp16: bool | None = None
    """Compute in float16 with loss scaling, trained weights in float32; unset: on a GPU without bfloat16 under
    bf16: auto."""
    float16: Annotated[
        bool | None,
        Supported(False, why="small gradients vanish and large ones overflow without loss scaling, which fp16 has"),
    ] = None
    """Store and compute everything in float16, without loss scaling."""
    tf32: bool | Literal["auto"] = "auto"
    """TensorFloat-32 matrix products of float32 on NVIDIA GPUs; `auto`: allowed where bf16 is computed."""
    master_weights: Annotated[Literal["float32"] | None, Ours()] = None
    """`float32` keeps trained weights in float32 and computes in bfloat16; unset: as computed (adapters: float32)."""
    fp8: Annotated[bool | None, NotYet()] = None
    """Compute the matrix products of linear layers in 8-bit floating point through torchao, on GPUs that can."""
    fp8_enable_fsdp_float8_all_gather: Annotated[bool | None, NotYet()] = None
    """Send FSDP2's shards of weights in 8 bits under fp8."""
    fp32_norms: Annotated[bool | None, NotYet()] = None
    """Keep normalisation layers in float32 under FSDP2 while the rest computes in bfloat16."""
    fp32_norm_classes: Annotated[list[str] | None, NotYet()] = None
    """Classes that fp32_norms is for: ends of class names, or full paths with dots; unset: RMSNorm and LayerNorm."""

    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""
    gradient_checkpointing_every: Annotated[PositiveInt | None, Ours()] = None
    """Recompute only each so many layers one, beginning with the first: fewer cost less time and more memory; unset:
    every layer."""
    gradient_checkpointing_kwargs: Annotated[
        GradientCheckpointingKwargs | None, NoEffect("recomputation never re-enters autograd")
    ] = None
    """Settings of torch's checkpoint function, which recomputes."""
    selective_checkpointing: SelectiveCheckpointing | bool | None = None
    """Keep the results of some operators although their layer is recomputed; true: those of attention."""
    activation_offloading: Annotated[
        Literal["legacy", "disk", "hidden_states"] | bool | None,
        Supported(
            False,
            True,
            "legacy",
            "hidden_states",
            why="a disk is slower than computing the layer again; CPU memory holds the same",
        ),
    ] = False
    """Hold what enters each recomputed layer outside the GPU until the backward pass: true, `legacy` and
    `hidden_states` in CPU memory, `disk` on disk."""
    layer_offloading: Annotated[bool | None, NotYet()] = False
    """Hold the weights of layers in CPU memory while others are computed, and fetch them in time."""

    max_memory: Annotated[
        dict[NonNegativeInt | Literal["cpu", "disk"], NonNegativeInt | str] | None, NotYet()
    ] = None  # fmt: skip
    """GPU number, `cpu` or `disk` -> bytes, or text such as 20GiB, that the model's weights may take there."""
    gpu_memory_limit: Annotated[PositiveInt | str | None, NotYet()] = None
    """GiB, or text such as 20GiB, that the model's weights may take on each GPU; the rest goes to CPU memory."""
    lora_on_cpu: Annotated[bool | None, PLACED] = None
    """Load an adapter on the CPU, where the model fills the GPU."""
    low_cpu_mem_usage: Annotated[bool | None, PLACED] = None
    """Load the model without first making it with random weights in CPU memory."""
    torch_empty_cache_steps: Annotated[NonNegativeInt | None, LEANER] = None
    """Steps between calls of torch.cuda.empty_cache(), which gives unused memory back to the driver; unset: never."""
    gc_collect_steps: Annotated[int | None, Field(ge=-1), FASTER] = None
    """Steps between collections of Python's garbage; -1: after each epoch and before evaluations; unset: never."""
