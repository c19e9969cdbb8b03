"""Which back end computes attention."""

from __future__ import annotations

from axo.plan.facts import Facts, Hardware
from axo.plan.plan import BatchPlan, Decision, EnginePlan, PrecisionPlan, decision
from axo.recipe.recipe import Recipe


def plan_attention(
    recipe: Recipe,
    facts: Facts,
    engine: EnginePlan,
    precision: PrecisionPlan,
    batch: BatchPlan,
    decisions: list[Decision],
) -> str:
    """The name of ATTENTION that runs; what was decided is added to `decisions`."""
    asked = recipe.model.attn_implementation
    missing = _flash_attention_missing(facts.hardware, engine, precision)
    effective: str = asked or ("sdpa_varlen" if missing else "flash_attention_2")
    why, fallback = ("as asked" if asked else "one call for each sample, no mask"), False
    if asked == "flash_attention_2" and missing:
        apart = "; sdpa_varlen keeps packed samples apart too" if batch.sample_packing else ""
        effective, why, fallback = "sdpa_varlen", f"{missing}{apart}", True
    elif asked in ("sdpa", "eager") and batch.sample_packing:
        why = "as asked; a T x T mask for packed samples (sdpa_varlen needs none)"
    decisions.append(decision("attn_implementation", asked, effective, why, fallback=fallback))
    return effective


def _flash_attention_missing(hardware: Hardware, engine: EnginePlan, precision: PrecisionPlan) -> str | None:
    if engine.device != "cuda":
        return "flash_attention_2 needs a GPU"
    if "flash-attn" not in hardware.packages:
        return "the package flash-attn is not installed"
    if "bfloat16" not in (precision.model_dtype, precision.autocast_dtype):
        return "flash_attention_2 computes in 16 bits only and this run in float32"
    return None
