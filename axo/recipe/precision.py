"""In which number formats weights are stored and computed, and what is recomputed to save memory."""

from __future__ import annotations

from typing import Literal

from axo.recipe.section import Section


class PrecisionSection(Section):
    bf16: bool | Literal["auto", "full"] = "auto"
    """Compute in bfloat16; `auto`: where the device computes it natively, on a CPU float32."""
    fp16: Literal[False] | None = None
    """Float16 with loss scaling; not supported yet, so only `false`."""
    tf32: bool | Literal["auto"] = "auto"
    """TensorFloat-32 matrix products of float32 on NVIDIA GPUs; `auto`: allowed where bf16 is computed."""
    master_weights: Literal["float32"] | None = None
    """`float32` keeps trained weights in float32 and computes in bfloat16; unset: as computed (adapters: float32)."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""
