"""Which parts of the model are computed by faster or leaner code of the same meaning."""

from __future__ import annotations

import re
from typing import Any

from axo.plan.facts import Facts
from axo.plan.parameters_architecture import NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.plan import Decision, EnginePlan, KernelsPlan, decision
from axo.recipe.adapters import AdapterSection
from axo.recipe.recipe import Recipe

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
GATED = {
    "gemma": "geglu", "gemma2": "geglu", "gemma3_text": "geglu", "exaone4": "swiglu", "glm4": "swiglu",
    "granite": "swiglu", "llama": "swiglu", "ministral": "swiglu", "mistral": "swiglu", "mixtral": "swiglu",
    "olmo2": "swiglu", "olmo3": "swiglu", "phi3": "swiglu", "qwen2": "swiglu", "qwen3": "swiglu",
    "qwen3_moe": "swiglu", "smollm3": "swiglu",
}  # fmt: skip
"""Model types that Liger has kernels for, and the argument of its apply functions for their gated activation
(liger-kernel 0.8.5, transformers/monkey_patch.py; models of text whose layers axo's tests know)."""


def plan_kernels(recipe: Recipe, facts: Facts, engine: EnginePlan, decisions: list[Decision]) -> KernelsPlan:
    """What replaces parts of the model; what was decided is added to `decisions`."""
    liger = _liger(recipe, facts, engine, decisions)
    compiled = _compile(recipe, facts, engine, decisions)
    return KernelsPlan(
        liger=liger,
        lora_mlp=_lora_mlp(recipe, facts, liger, decisions),
        compile=compiled,
        compile_settings=_compile_settings(recipe) if compiled else {},
    )


def _liger(recipe: Recipe, facts: Facts, engine: EnginePlan, decisions: list[Decision]) -> tuple[str, ...]:
    """Names of arguments of Liger's apply functions."""
    section, model_type = recipe.kernels, _model_type(facts)
    gated = GATED.get(model_type or "", "swiglu")
    asked = {
        "liger_rms_norm": "rms_norm" if section.liger_rms_norm else None,
        "liger_layer_norm": "layer_norm" if section.liger_layer_norm else None,
        "liger_glu_activation": gated if section.liger_glu_activation else None,
        "liger_swiglu": gated if section.liger_swiglu else None,  # its old name
    }
    wanted = {key: part for key, part in asked.items() if part is not None}
    missing = _liger_missing(facts, engine, model_type)
    parts: list[str] = []
    for key, part in wanted.items():
        lacking = missing or (
            "Liger has no such kernel for the models that axo knows" if part == "layer_norm" else None
        )
        effective = f"Liger's {part}" if lacking is None else "off: transformers' own code"
        why = lacking or "the same function; sums run in another order"
        decisions.append(decision(key, True, effective, why, fallback=lacking is not None))
        parts += [part] if lacking is None and part not in parts else []
    return tuple(parts)


def _liger_missing(facts: Facts, engine: EnginePlan, model_type: str | None) -> str | None:
    if engine.device != "cuda":
        return "Liger's kernels need a GPU"
    if "liger-kernel" not in facts.hardware.packages:
        return "the package liger-kernel is not installed"
    if model_type is not None and model_type not in GATED:
        return f"Liger has no kernels for {model_type!r}, or axo does not know them"
    return None


def _lora_mlp(recipe: Recipe, facts: Facts, liger: tuple[str, ...], decisions: list[Decision]) -> bool:
    asked = recipe.kernels.lora_mlp_kernel
    if recipe.adapters.adapter is None and asked:
        decisions.append(decision("lora_mlp_kernel", True, "off", "there is no adapter", fallback=True))
    if recipe.adapters.adapter is None or asked is False:
        return False
    if asked is None:
        why = "it saves memory for the time of computing gate and up again; Axolotl switches it on by itself"
        decisions.append(decision("lora_mlp_kernel", None, "off", why))
        return False
    lacking = _lora_mlp_lacks(recipe.adapters, facts, liger)
    effective = "off" if lacking else "feed-forward layers keep their input only"
    saved = "gate, up and their activation are computed again in the backward pass; the results are equal"
    whole = "; gradient_checkpointing computes whole layers again, so little is left to save"
    why = lacking or saved + (whole if recipe.precision.gradient_checkpointing else "")
    decisions.append(decision("lora_mlp_kernel", True, effective, why, fallback=lacking is not None))
    return lacking is None


def _lora_mlp_lacks(section: AdapterSection, facts: Facts, liger: tuple[str, ...]) -> str | None:
    """Why the layers cannot be computed so."""
    if {"swiglu", "geglu"} & set(liger):
        return "liger_glu_activation computes these layers"
    if section.lora_dropout:
        return "lora_dropout would be drawn anew when a layer is computed again"
    if section.peft_use_dora:
        return "DoRA scales what LoRA adds by the whole matrix"
    apart = [name for name in PROJECTIONS if not _is_target(name, section)]
    if section.lora_model_dir is None and apart:
        return f"{', '.join(apart)} {'has' if len(apart) == 1 else 'have'} no adapter"
    try:
        linear = None if facts.model_config is None else architecture(facts.model_config).linear
    except NotKnown:
        linear = None
    if linear is not None and not all(any(name.endswith(f"mlp.{end}") for name in linear) for end in PROJECTIONS):
        return f"{_model_type(facts)} has no layers of {', '.join(PROJECTIONS)}"
    return None


def _is_target(name: str, section: AdapterSection) -> bool:
    """Whether the recipe gives the feed-forward matrix `name` an adapter, as far as its keys alone say."""
    asked = section.lora_target_modules
    if section.lora_target_linear or asked == "all-linear" or "all-linear" in (asked or []):
        return True
    if isinstance(asked, str):
        try:
            return re.fullmatch(asked, f"model.layers.0.mlp.{name}") is not None
        except re.error:
            return False  # a finding of its own
    return any(name == one.rpartition(".")[2] for one in asked or [])


def _compile(recipe: Recipe, facts: Facts, engine: EnginePlan, decisions: list[Decision]) -> bool:
    asked = recipe.kernels.torch_compile
    if not asked:
        return False
    on_gpu = engine.device == "cuda"
    inductor = (recipe.kernels.torch_compile_backend or "inductor") == "inductor"
    selective = bool(recipe.precision.gradient_checkpointing and recipe.precision.selective_checkpointing)
    effective, fallback = "off", True
    if asked == "auto" and not on_gpu:
        why, fallback = "auto: only on a GPU", False
    elif on_gpu and inductor and "triton" not in facts.hardware.packages:
        why = "the package triton is not installed"
    elif selective:
        why = "selective_checkpointing looks at each operator, and a compiled layer is one"
    else:
        effective, fallback = "each decoder layer", False
        why = "attention stays outside of the graphs; results differ by rounding; the first steps take longer"
    decisions.append(decision("torch_compile", asked, effective, why, fallback=fallback))
    return effective != "off"


def _compile_settings(recipe: Recipe) -> dict[str, Any]:
    section = recipe.kernels
    given = {
        "backend": section.torch_compile_backend or "inductor",
        "mode": section.torch_compile_mode,
        "options": section.torch_compile_options,
    }
    return {name: value for name, value in given.items() if value is not None}


def _model_type(facts: Facts) -> str | None:
    return None if facts.model_config is None else facts.model_config.get("model_type")
