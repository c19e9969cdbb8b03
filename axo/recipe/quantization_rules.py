"""Rules about bnb_config_kwargs: the names and values that transformers' BitsAndBytesConfig takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from axo.errors import Finding
from axo.recipe.describe import found_text, spelt
from axo.recipe.recipe import Recipe
from axo.registry.registry import did_you_mean

KEY = "bnb_config_kwargs"


def bnb_settings(recipe: Recipe) -> list[Finding]:
    """transformers passes over unknown names and some wrong values without a word."""
    section = recipe.quantization
    if not (section.load_in_4bit or section.load_in_8bit):
        return []  # without effect, which is a finding of its own
    return [
        finding
        for name, value in (section.bnb_config_kwargs or {}).items()
        for finding in _faults(name, value, bits=4 if section.load_in_4bit else 8)
    ]


def _faults(name: str, value: Any, *, bits: int) -> Iterator[Finding]:
    key = f"{KEY}.{name}"
    if name in _ELSEWHERE:
        yield Finding(key, "is no setting of a quantisation", _ELSEWHERE[name])
    elif name not in SETTINGS:
        known = ", ".join(SETTINGS)
        near = did_you_mean(name, SETTINGS)
        yield Finding(key, "transformers' BitsAndBytesConfig has no such setting", near or f"settings: {known}")
    elif name.startswith("bnb_4bit_") and bits == 8:
        yield Finding(key, "has no effect on 8 bits", f"remove it, or set load_in_4bit: true instead of {_EIGHT}")
    elif name == "llm_int8_threshold" and bits == 4:
        yield Finding(key, "has no effect on 4 bits", f"remove it, or set {_EIGHT} instead of load_in_4bit")
    else:
        fits, expected = SETTINGS[name]
        if not fits(value):
            shown = found_text(value) if isinstance(value, str) else spelt(value)
            yield Finding(key, f"found {shown}, expected {expected}", _WHY.get(name))


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_false(value: Any) -> bool:
    return value is False


def _one_of(*values: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in values, " or ".join(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in cast("list[Any]", value))


_EIGHT = "load_in_8bit: true"
SETTINGS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "bnb_4bit_quant_type": _one_of("nf4", "fp4"),
    "bnb_4bit_use_double_quant": (_is_switch, "true or false"),
    "bnb_4bit_compute_dtype": _one_of("bfloat16", "float16", "float32"),
    "bnb_4bit_quant_storage": _one_of("uint8", "bfloat16", "float16", "float32"),
    "llm_int8_threshold": (_is_number, "a number that is not negative"),
    "llm_int8_skip_modules": (_is_names, "a list of (ends of) module names"),
    "llm_int8_has_fp16_weight": (_is_false, "false"),
    "llm_int8_enable_fp32_cpu_offload": (_is_false, "false"),
}
_WHY = {
    "llm_int8_has_fp16_weight": "with true the weights would stay in 16 bits",
    "llm_int8_enable_fp32_cpu_offload": "axo keeps the whole base on the device that computes with it",
}
_ELSEWHERE = {name: f"it is a key of the recipe itself: {name}: true" for name in ("load_in_4bit", "load_in_8bit")} | {
    "quant_method": "remove it",
    "blocksize": "remove it: bitsandbytes' layers take blocks of 64",
}
