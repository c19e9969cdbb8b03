"""In how many bits the frozen base is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from axo.errors import Finding, RecipeError
from axo.plan.facts import Facts
from axo.plan.model_checks import text_part
from axo.plan.plan import Decision, EnginePlan, PrecisionPlan, QuantizationPlan, decision
from axo.plan.stored_quantization import (
    KEYS,
    Kind,
    StoredQuantization,
    agreed_kind,
    not_gptq,
    storage_faults,
    stored_quantization,
)
from axo.plan.words import in_words
from axo.recipe.describe import spelt
from axo.recipe.quantization import QuantizationSection
from axo.recipe.recipe import Recipe


def plan_quantization(
    recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan, decisions: list[Decision]
) -> QuantizationPlan:
    """How the base is quantised; what was decided is added to `decisions`.

    Raises RecipeError where the checkpoint's own quantisation contradicts the recipe, and where a package is missing:
    there is no fallback, since weights of 16 bits need two to four times the memory."""
    stored = stored_quantization(facts.model_config)
    asked = asked_kind(recipe.quantization)
    kind = agreed_kind(asked, stored)
    findings = [*storage_faults(asked, stored, adapter=recipe.adapters.adapter)]
    findings += [not_gptq()] if asked == "gptq" and stored is None and facts.model_config is not None else []
    if kind is not None and not findings:
        findings += [*_missing(kind, KEYS[kind] if asked else "base_model", facts.hardware.packages)]
    if kind in ("bnb_4bit", "bnb_8bit") and stored is not None and not findings:
        findings += [*_other_settings(recipe.quantization, stored)]
    experts = bool(recipe.quantization.quantize_moe_experts) and has_experts(facts.model_config) is not False
    if experts and kind is not None and not findings:
        findings += [*_unfit_experts(recipe, kind)]
    if findings:
        raise RecipeError(findings)
    if kind is None:
        return QuantizationPlan()
    plan = QuantizationPlan(kind=kind, settings=_SETTINGS[kind](recipe, facts, engine, precision), experts=experts)
    decisions += _said(recipe, facts, plan, engine, precision)
    return plan


def asked_kind(section: QuantizationSection) -> Kind | None:
    """The kind of quantised base that the recipe's keys name."""
    if section.load_in_4bit:
        return "bnb_4bit"
    if section.load_in_8bit:
        return "bnb_8bit"
    return "gptq" if section.gptq else None


HEAD = "lm_head"
WIDE_STORAGE = frozenset({"jamba", "nemotron_h", "qwen2_moe"})
"""Model types that turn activations into the type of stored weights, for which Axolotl stores packed bits in
float32."""
UNQUANTISED: Mapping[str, tuple[str, ...]] = {"falcon_h1": ("out_proj",), "jamba": ("mamba",)}
"""Model types with layers whose weights are read by their own kernels, past the layer: Axolotl leaves them in 16 bits
(jamba only in 8 bits)."""
PACKAGES: Mapping[Kind, tuple[tuple[str, ...], str]] = {
    "bnb_4bit": (("bitsandbytes",), "pip install 'axo[bitsandbytes]'"),
    "bnb_8bit": (("bitsandbytes",), "pip install 'axo[bitsandbytes]'"),
    "gptq": (("gptqmodel", "optimum"), "pip install 'axo[gptq]'"),
}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def _missing(kind: Kind, key: str, packages: Mapping[str, str]) -> Iterator[Finding]:
    needed, install = PACKAGES[kind]
    absent = [name for name in needed if name not in packages]
    if absent:
        what = "package" if len(absent) == 1 else "packages"
        yield Finding(key, f"needs the {what} {' and '.join(absent)}, not installed here", f"`{install}`")


def _unfit_experts(recipe: Recipe, kind: Kind) -> Iterator[Finding]:
    key = "quantize_moe_experts"
    if kind == "bnb_8bit":
        message = "bitsandbytes packs experts, which are no linear layers, into 4 bits only"
        yield Finding(key, message, "set load_in_4bit: true instead of load_in_8bit")
    if recipe.adapters.lora_target_parameters:
        message = "peft finds no parameter that is packed, so that lora_target_parameters names nothing"
        yield Finding(
            key, message, "keep one of the two: train experts that stay whole, or pack them and adapt attention"
        )


def _other_settings(section: QuantizationSection, stored: StoredQuantization) -> Iterator[Finding]:
    """Settings of the recipe that a checkpoint quantised with others cannot follow."""
    for key, value in (section.bnb_config_kwargs or {}).items():
        if key != "bnb_4bit_compute_dtype" and key in stored.settings and stored.settings[key] != value:
            message = f"is {spelt(value)}, but base_model is quantised already with {spelt(stored.settings[key])}"
            yield Finding(f"bnb_config_kwargs.{key}", message, "remove it, or name the unquantised model as base_model")


def _four_bits(recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan) -> dict[str, Any]:
    """Axolotl's settings (loaders/model.py) and QLoRA's (Dettmers et al. 2023, arXiv 2305.14314): NF4, its scales
    quantised once more, computed as the Plan computes."""
    kind = _model_type(facts)
    settings: dict[str, Any] = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": precision.autocast_dtype or precision.model_dtype,
        "bnb_4bit_quant_storage": "float32" if kind in WIDE_STORAGE else "bfloat16",
    }
    return _settled(settings, recipe, skipped=UNQUANTISED.get(kind, ()) if kind != "jamba" else ())


def _eight_bits(recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan) -> dict[str, Any]:
    return _settled({"load_in_8bit": True}, recipe, skipped=UNQUANTISED.get(_model_type(facts), ()))


def _gptq(recipe: Recipe, facts: Facts, engine: EnginePlan, precision: PrecisionPlan) -> dict[str, Any]:
    stored = stored_quantization(facts.model_config)
    bits = None if stored is None else stored.settings.get("bits")
    # On a CPU the fastest kernel converts its weights at the first evaluation, after which nothing can be trained.
    backend = "torch" if engine.device == "cpu" else "auto_trainable"
    return {"bits": bits if isinstance(bits, int) else 4, "backend": backend}


_SETTINGS = {"bnb_4bit": _four_bits, "bnb_8bit": _eight_bits, "gptq": _gptq}


def _settled(settings: dict[str, Any], recipe: Recipe, *, skipped: tuple[str, ...]) -> dict[str, Any]:
    """With what the recipe sets; the output head stays whole also where a list of skipped modules leaves it out."""
    merged = {**settings, **(recipe.quantization.bnb_config_kwargs or {})}
    named = [*cast("list[str]", merged.get("llm_int8_skip_modules") or []), *skipped]
    if named:
        merged["llm_int8_skip_modules"] = list(dict.fromkeys([*named, HEAD]))
    if "llm_int8_threshold" in merged:
        merged["llm_int8_threshold"] = float(merged["llm_int8_threshold"])
    return merged


def _said(
    recipe: Recipe, facts: Facts, plan: QuantizationPlan, engine: EnginePlan, precision: PrecisionPlan
) -> Iterator[Decision]:
    stored = stored_quantization(facts.model_config)
    section, rest = recipe.quantization, f"embeddings, norms, biases and output head stay in {precision.model_dtype}"
    already = "" if stored is None else ", as the checkpoint stores them"
    if plan.kind == "gptq":
        effective = f"{_gptq_words(plan, stored)}, kernel: {plan.settings['backend']}"
        yield decision("gptq", section.gptq, effective, f"linear layers{already}; {rest}")
    elif plan.kind == "bnb_8bit":
        why = f"linear layers{already}; {rest}"
        if engine.device == "cpu":
            why += "; evaluation rounds their inputs to 8 bits too, training on a CPU does not"
        yield decision("load_in_8bit", section.load_in_8bit or None, "8 bits (bitsandbytes LLM.int8)", why)
    else:
        yield decision(
            "load_in_4bit",
            section.load_in_4bit or None,
            f"4 bits (bitsandbytes {_four_bit_words(plan, stored)})",
            f"linear layers{already}; {rest}",
        )
        compute_dtype = "bnb_4bit_compute_dtype"
        computed = str(plan.settings[compute_dtype])
        own = compute_dtype in (section.bnb_config_kwargs or {})
        why = "as asked" if own else "as everything else is computed"
        if engine.device == "cpu":
            why += "; on a CPU 4 bits save memory and cost time: weights are unpacked for every product"
        others = {name: value for name, value in (section.bnb_config_kwargs or {}).items() if name != compute_dtype}
        effective = f"{f'{in_words(others)}; ' if others else ''}products computed in {computed}"
        yield decision("bnb_config_kwargs", section.bnb_config_kwargs, effective, why)
    yield from _experts_said(recipe, facts, plan, precision)


def _experts_said(recipe: Recipe, facts: Facts, plan: QuantizationPlan, precision: PrecisionPlan) -> Iterator[Decision]:
    key, asked = "quantize_moe_experts", recipe.quantization.quantize_moe_experts or None
    there = has_experts(facts.model_config)
    if plan.experts:
        why = f"unpacked whenever they are read; while the model is loaded they are whole, in {precision.model_dtype}"
        if not recipe.precision.gradient_checkpointing:
            why += "; without gradient_checkpointing those of all layers stay unpacked until the backward pass"
        yield decision(key, asked, "experts in 4 bits", why)
    elif asked:
        yield decision(key, asked, "no effect", "this model has no experts")
    elif there and plan.kind != "gptq":
        why = "each layer stores them as one tensor, which is no linear layer"
        why += "; quantize_moe_experts: true packs them too" if plan.kind == "bnb_4bit" else ""
        yield decision(key, asked, f"experts stay in {precision.model_dtype}", why)


def _four_bit_words(plan: QuantizationPlan, stored: StoredQuantization | None) -> str:
    settings = plan.settings if stored is None else stored.settings
    double = ", scales quantised too" if settings.get("bnb_4bit_use_double_quant") else ""
    return f"{settings.get('bnb_4bit_quant_type', 'fp4')}{double}"


def _gptq_words(plan: QuantizationPlan, stored: StoredQuantization | None) -> str:
    group = None if stored is None else stored.settings.get("group_size")
    scales = f", a scale for {group} weights" if isinstance(group, int) and group > 0 else ""
    return f"{plan.settings['bits']} bits (GPTQ{scales})" if stored is not None else "GPTQ"


def has_experts(config: Mapping[str, Any] | None) -> bool | None:
    """Whether a model is a mixture of experts; None where config.json is not known."""
    if config is None:
        return None
    counts = [text_part(config).get(key) for key in _EXPERTS]
    return any(isinstance(count, int) and count > 1 for count in counts)


def _model_type(facts: Facts) -> str:
    config: Mapping[str, Any] = {} if facts.model_config is None else text_part(facts.model_config)
    return str(config.get("model_type"))
