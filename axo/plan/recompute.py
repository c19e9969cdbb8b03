"""What is recomputed in the backward pass, or held outside the device until then."""

from __future__ import annotations

from axo.plan.facts import Facts
from axo.plan.plan import Decision, EnginePlan, RecomputePlan, decision
from axo.recipe.precision import SelectiveCheckpointing
from axo.recipe.recipe import Recipe

WINDOWED = ("sliding_attention", "chunked_attention")
"""Types of layers whose attention costs little (Axolotl's default of recompute_layer_types)."""
_DROPOUT_OF_ATTENTION = ("attention_dropout", "attn_pdrop", "attn_dropout")


def plan_recompute(recipe: Recipe, facts: Facts, engine: EnginePlan, decisions: list[Decision]) -> RecomputePlan:
    """Which layers are recomputed; what was decided is added to `decisions`."""
    section = recipe.precision
    units = recipe.engines.fsdp_config is not None and recipe.engines.fsdp_config.activation_checkpointing
    if units:
        why = "gradient_checkpointing does it" if section.gradient_checkpointing else "as asked"
        decisions.append(decision("fsdp_config.activation_checkpointing", True, "each layer is recomputed", why))
    if not section.gradient_checkpointing and not units:
        return RecomputePlan()
    every = section.gradient_checkpointing_every or 1
    if every > 1:
        decisions.append(decision("gradient_checkpointing_every", every, _layers(every, facts), "as asked"))
    offload = bool(section.activation_offloading) and engine.device == "cuda"
    if section.activation_offloading:
        decisions.append(_offloading(section.activation_offloading, offload=offload))
    keep = _kept(section.selective_checkpointing)
    lacking = _cannot_keep(recipe, facts) if keep else None
    if keep:
        effective = "off: layers are recomputed whole" if lacking else f"results of {', '.join(keep)} are kept"
        why = lacking or "as asked"
        asked = True if section.selective_checkpointing is True else "on"
        decisions.append(decision("selective_checkpointing", asked, effective, why, fallback=lacking is not None))
    return RecomputePlan(
        every=every,
        offload=offload,
        keep=() if lacking else keep,
        keep_nothing_in=() if lacking else _whole(section.selective_checkpointing),
    )


def _layers(every: int, facts: Facts) -> str:
    ordinal = {2: "second", 3: "third"}.get(every, f"{every}th")
    count = None if facts.model_config is None else facts.model_config.get("num_hidden_layers")
    share = f": {-(-count // every)} of {count}" if type(count) is int else ""
    return f"each {ordinal} layer is recomputed, the first of them{share}"


def _offloading(asked: str | bool, *, offload: bool) -> Decision:
    if not offload:
        return decision("activation_offloading", asked, "off", "there is no GPU: activations are in CPU memory anyway")
    effective = "what enters each recomputed layer is held in CPU memory"
    return decision("activation_offloading", asked, effective, "copied back when the layer is recomputed")


def _kept(asked: SelectiveCheckpointing | bool | None) -> tuple[str, ...]:
    if isinstance(asked, SelectiveCheckpointing):
        return tuple(asked.save)
    return ("attention",) if asked else ()


def _whole(asked: SelectiveCheckpointing | bool | None) -> tuple[str, ...]:
    """Types of layers of which nothing is kept."""
    if not isinstance(asked, SelectiveCheckpointing):
        return WINDOWED if asked else ()
    if asked.recompute_layer_types is not None:
        return tuple(asked.recompute_layer_types)
    return () if asked.save_sliding_window else WINDOWED


def _cannot_keep(recipe: Recipe, facts: Facts) -> str | None:
    """Why keeping would be wrong or would keep nothing."""
    config = facts.model_config or {}
    if any(config.get(key) for key in _DROPOUT_OF_ATTENTION):
        return "attention has dropout here: where it is not computed again, later dropout draws other numbers"
    if recipe.model.attn_implementation == "eager":
        return "eager attention is many operators, none of which is attention"
    return None
