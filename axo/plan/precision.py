"""Which number formats weights are stored and computed in."""

from __future__ import annotations

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
    computed = _computed(recipe, native=native, device=engine.device)
    decisions.append(_computed_decision(recipe, computed, native=native, device=engine.device))
    adapted, scaled = recipe.adapters.adapter is not None, computed == "float16"
    wide_weights = not adapted and (section.master_weights == "float32" or scaled) and engine.name != "deepspeed"
    model_dtype: DType = "float32" if wide_weights else computed
    decisions.append(_weights_decision(recipe, model_dtype, engine, scaled=scaled))
    tf32 = native if section.tf32 == "auto" else section.tf32
    if engine.device == "cuda":
        decisions.append(decision("tf32", section.tf32, str(tf32).lower(), "matrix products that stay in float32"))
    by_deepspeed = engine.name == "deepspeed" and scaled  # its loss scaling is for weights in float16
    mixed = computed != "float32" and (wide_weights or adapted) and not by_deepspeed
    return PrecisionPlan(
        model_dtype=model_dtype,
        adapter_dtype="float16" if by_deepspeed else "float32",
        autocast_dtype=computed if mixed else None,
        tf32=tf32,
        loss_scaling=scaled,
    )


def _computed(recipe: Recipe, *, native: bool, device: str) -> DType:
    """The format of matrix products. On a GPU without bfloat16, `auto` is float16 unless `fp16: false`, as in
    Axolotl."""
    section = recipe.precision
    if section.fp16:
        return "float16"
    if section.bf16 == "auto":
        older = "float16" if device == "cuda" and section.fp16 is None else "float32"
        return "bfloat16" if native else older
    return "bfloat16" if section.bf16 else "float32"


def _computed_decision(recipe: Recipe, computed: DType, *, native: bool, device: str) -> Decision:
    section = recipe.precision
    if computed == "float16":
        said = "float16, loss scaled"
        if not section.fp16:
            return decision("bf16", section.bf16, said, f"auto: no native bfloat16 on this {device} (as in Axolotl)")
        return decision("fp16", True, said, "slow on a CPU" if device == "cpu" else "as asked")
    if section.bf16 != "auto":
        slow = computed == "bfloat16" and not native
        return decision("bf16", section.bf16, computed, "slow here" if slow else "as asked")
    why = "the GPU computes it natively" if native else f"auto: no native bfloat16 on this {device}"
    return decision("bf16", section.bf16, computed, why)


def _weights_decision(recipe: Recipe, model_dtype: DType, engine: EnginePlan, *, scaled: bool) -> Decision:
    asked = recipe.precision.master_weights
    adapted = recipe.adapters.adapter is not None
    if engine.name == "deepspeed" and model_dtype != "float32" and (scaled or not adapted):
        stored = f"{'base and adapter' if adapted else 'weights'} {model_dtype}, masters float32"
        return decision("master_weights", asked, stored, "DeepSpeed updates masters in float32, split among workers")
    if adapted:
        stored = f"base {model_dtype}, adapter float32"
        return decision("master_weights", asked, stored, "adapters are small: kept wide")
    why = "as asked" if asked else "weights are stored as computed"
    if scaled and not asked:
        why = "gradients of a scaled loss need the range of float32"
    if model_dtype == "bfloat16" and recipe.optim.learning_rate < VANISHING_LR:
        why = (
            f"at learning_rate {recipe.optim.learning_rate:g} many bfloat16 updates round to nothing: "
            "master_weights: float32 is recommended"
        )
    return decision("master_weights", asked, f"weights {model_dtype}", why)
