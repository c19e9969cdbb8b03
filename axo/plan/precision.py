"""Which number formats weights are stored and computed in."""

from __future__ import annotations

from typing import Any

from axo.plan.facts import Hardware
from axo.plan.plan import Decision, DType, EnginePlan, PrecisionPlan, decision
from axo.recipe.recipe import Recipe

BF16_CAPABILITY = (8, 0)
"""First CUDA compute capability with native bfloat16 (CUDA C++ Programming Guide, arithmetic instructions)."""
VANISHING_LR = 2**-14
"""Half a bfloat16 step at a weight of 0.02: bfloat16 keeps 7 fraction bits, so weights in [2**-6, 2**-5) are 2**-13
apart. AdamW moves a weight by about the learning rate; smaller moves are rounded away in bfloat16 weights."""


def plan_precision(recipe: Recipe, hardware: Hardware, engine: EnginePlan, decisions: list[Decision]) -> PrecisionPlan:
    """Storage and arithmetic; what was decided is added to `decisions`."""
    section = recipe.precision
    native = bool(hardware.devices) and all(device.compute_capability >= BF16_CAPABILITY for device in hardware.devices)
    bf16 = native if section.bf16 == "auto" else bool(section.bf16)
    decisions.append(_bf16_decision(section.bf16, bf16=bf16, native=native, device=engine.device))
    model_dtype: DType = "bfloat16" if bf16 else "float32"
    wide_weights = section.master_weights == "float32" and recipe.adapters.adapter is None
    if wide_weights:
        model_dtype = "float32"
    mixed = bf16 and (wide_weights or recipe.adapters.adapter is not None)
    decisions.append(_weights_decision(recipe, model_dtype))
    tf32 = native if section.tf32 == "auto" else section.tf32
    if engine.device == "cuda":
        decisions.append(decision("tf32", section.tf32, str(tf32).lower(), "matrix products that stay in float32"))
    return PrecisionPlan(
        model_dtype=model_dtype,
        adapter_dtype="float32",
        autocast_dtype="bfloat16" if mixed else None,
        tf32=tf32,
    )


def _bf16_decision(asked: Any, *, bf16: bool, native: bool, device: str) -> Decision:
    if asked != "auto":
        slow = bf16 and not native
        return decision("bf16", asked, "bfloat16" if bf16 else "float32", "slow here" if slow else "as asked")
    why = "the GPU computes it natively" if native else f"auto: no native bfloat16 on this {device}"
    return decision("bf16", asked, "bfloat16" if bf16 else "float32", why)


def _weights_decision(recipe: Recipe, model_dtype: DType) -> Decision:
    asked = recipe.precision.master_weights
    if recipe.adapters.adapter is not None:
        stored = f"base {model_dtype}, adapter float32"
        return decision("master_weights", asked, stored, "adapters are small: kept wide")
    why = "as asked" if asked else "weights are stored as computed"
    if model_dtype == "bfloat16" and recipe.optim.learning_rate < VANISHING_LR:
        why = (
            f"at learning_rate {recipe.optim.learning_rate:g} many bfloat16 updates round to nothing: "
            "master_weights: float32 is recommended"
        )
    return decision("master_weights", asked, f"weights {model_dtype}", why)
