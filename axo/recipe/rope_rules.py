"""Rules about what replaces entries of the model's config: rotary positions, other entries, arguments of loading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from axo.errors import Finding
from axo.recipe.model import ModelSection
from axo.recipe.recipe import Recipe
from axo.recipe.table_rules import Excludes, on
from axo.registry.registry import did_you_mean

OVERRIDES = "overrides_of_model_config"
ROPE_ENTRIES = ("rope_parameters", "rope_scaling")
"""Entries of a config that describe rotary positions: today's name, and the older one."""
SCALINGS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "default": (frozenset(), frozenset()),
    "linear": (frozenset({"factor"}), frozenset()),
    "dynamic": (frozenset({"factor"}), frozenset()),
    "yarn": (
        frozenset({"factor"}),
        frozenset(
            {
                "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
                "mscale_all_dim", "truncate",
            }
        ),
    ),
    "longrope": (
        frozenset({"short_factor", "long_factor"}),
        frozenset({"original_max_position_embeddings", "attention_factor", "factor"}),
    ),
    "llama3": (
        frozenset({"factor", "low_freq_factor", "high_freq_factor"}),
        frozenset({"original_max_position_embeddings"}),
    ),
}  # fmt: skip
"""Type -> entries that it needs and entries that it may have, as transformers' modeling_rope_utils reads them."""
OF_ALL_TYPES = frozenset({"rope_type", "rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved"})


@dataclass(frozen=True)
class AskedRope:
    """What a recipe says about rotary positions."""

    key: str
    """Where it says so."""
    values: Mapping[str, Any]
    """With `rope_type`, where a type is given; one mapping for each kind of layers where it is nested."""

    @property
    def is_nested(self) -> bool:
        return is_nested(self.values)


def asked_rope(section: ModelSection) -> AskedRope | None:
    """None where the recipe leaves rotary positions as they are. Only of a recipe without faults."""
    overrides = section.overrides_of_model_config or {}
    places = _places(section)
    if not places and overrides.get("rope_theta") is None:
        return None
    key, given = places[0] if places else (OVERRIDES, dict[str, Any]())
    values: dict[str, Any] = (
        {name: _renamed(value) for name, value in given.items()} if is_nested(given) else _renamed(given)
    )
    if overrides.get("rope_theta") is not None:
        values = {**values, "rope_theta": overrides["rope_theta"]}
    return AskedRope(key, values)


def is_nested(rope: Mapping[str, Any]) -> bool:
    """Whether each kind of layers has rotary positions of its own."""
    return any(isinstance(value, dict) for value in rope.values())


def rope(recipe: Recipe) -> list[Finding]:
    """Rotary positions are described in one place, by a type that is known and the entries of that type."""
    places = _places(recipe.model)
    findings: list[Finding] = []
    if len(places) > 1:
        message = f"rotary positions are described here and in {places[1][0]}"
        findings.append(Finding(places[0][0], message, f"keep {OVERRIDES}: {{rope_parameters: ...}}"))
    theta = (recipe.model.overrides_of_model_config or {}).get("rope_theta")
    for key, given in places:
        for values in _parts(given):
            findings += _rope_faults(key, values)
            if theta is not None and (is_nested(given) or values.get("rope_theta", theta) != theta):
                findings.append(Finding(key, "rope_theta stands beside it too", "write it inside of it"))
    if theta is not None and not _is_positive(theta):
        findings.append(Finding(OVERRIDES, f"rope_theta is {theta!r}, expected a number above 0", "for example 1e6"))
    return findings


def overrides(recipe: Recipe) -> list[Finding]:
    """No entry of the config is replaced that axo sets itself."""
    given = recipe.model.overrides_of_model_config or {}
    return [
        Finding(OVERRIDES, f"{name} is not an entry to replace here: {_OWN_ENTRIES[name]}", f"remove {name}")
        for name in given
        if name in _OWN_ENTRIES
    ]


def model_kwargs(recipe: Recipe) -> list[Finding]:
    """No argument of loading is given that axo sets itself."""
    given = recipe.model.model_kwargs or {}
    return [
        Finding("model_kwargs", f"{name} is set by axo: {_OWN_ARGUMENTS[name]}", f"remove {name}")
        for name in given
        if name in _OWN_ARGUMENTS
    ]


LAWS = (
    Excludes(
        on("reinit_weights"), on("model_kwargs"), "nothing is loaded for a model of random weights",
        "remove model_kwargs",
    ),
)  # fmt: skip

_PRECISION = "the precision keys say it (bf16, fp16)"
_ATTENTION = "attn_implementation says it"
_QUANTISATION = "load_in_4bit, load_in_8bit and gptq say it"
_CLASS = "it decides which code is run"
_OWN_ENTRIES: Mapping[str, str] = {
    "dtype": _PRECISION, "torch_dtype": _PRECISION, "attn_implementation": _ATTENTION,
    "_attn_implementation": _ATTENTION, "quantization_config": _QUANTISATION, "model_type": _CLASS,
    "architectures": _CLASS, "auto_map": _CLASS, "vocab_size": "the tokenizer decides, and tokens and special_tokens",
}  # fmt: skip
_PLACE = "the Plan decides where tensors are"
_CHECKED = "axo checks what was loaded"
_OWN_ARGUMENTS: Mapping[str, str] = {
    "dtype": _PRECISION, "torch_dtype": _PRECISION, "attn_implementation": _ATTENTION,
    "quantization_config": _QUANTISATION, "load_in_4bit": _QUANTISATION, "load_in_8bit": _QUANTISATION,
    "config": f"base_model_config and {OVERRIDES} say it", "revision": "revision_of_model says it",
    "trust_remote_code": "the key trust_remote_code says it", "local_files_only": "HF_HUB_OFFLINE says it",
    "token": "the environment has it (HF_TOKEN)", "use_auth_token": "the environment has it (HF_TOKEN)",
    "device_map": _PLACE, "max_memory": _PLACE, "offload_folder": _PLACE, "offload_state_dict": _PLACE,
    "tp_plan": _PLACE, "tp_size": _PLACE, "device_mesh": _PLACE, "distributed_config": _PLACE,
    "output_loading_info": _CHECKED, "ignore_mismatched_sizes": _CHECKED, "state_dict": _CHECKED,
    "pretrained_model_name_or_path": "base_model says it",
}  # fmt: skip


def _places(section: ModelSection) -> list[tuple[str, Mapping[str, Any]]]:
    """Where rotary positions are described: key and description."""
    replaced = section.overrides_of_model_config or {}
    given = [("rope_scaling", section.rope_scaling), *((OVERRIDES, replaced.get(name)) for name in ROPE_ENTRIES)]
    return [(key, cast("dict[str, Any]", value)) for key, value in given if isinstance(value, dict) and value]


def _parts(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if not is_nested(given):
        return [_renamed(given)]
    return [_renamed(cast("dict[str, Any]", value)) for value in given.values() if isinstance(value, dict)]


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty entries; `type` is the older name of `rope_type`, and su of longrope."""
    values = {name: value for name, value in given.items() if value is not None}
    kind = values.pop("type", None)
    if kind is not None:
        values.setdefault("rope_type", kind)
    if values.get("rope_type") == "su":
        values["rope_type"] = "longrope"
    return values


def _rope_faults(key: str, values: Mapping[str, Any]) -> Iterator[Finding]:
    kind: Any = values.get("rope_type")
    if not isinstance(kind, str) or kind not in SCALINGS:
        found = "has no rope_type" if kind is None else f"rope_type is {kind!r}"
        near = did_you_mean(kind, SCALINGS) if isinstance(kind, str) else None
        yield Finding(
            key, f"{found}, expected one of {', '.join(SCALINGS)}", near or "for example {rope_type: yarn, factor: 4.0}"
        )
        return
    needed, allowed = SCALINGS[kind]
    missing = sorted(needed - set(values))
    if missing:
        yield Finding(key, f"rope_type {kind} needs {', '.join(missing)}", _EXAMPLES[kind])
    known = needed | allowed | OF_ALL_TYPES
    for name in sorted(set(values) - known):
        near = did_you_mean(name, known)
        yield Finding(
            key, f"{name} is no entry of rope_type {kind}", near or f"its entries: {', '.join(sorted(known))}"
        )
    yield from _value_faults(key, values)


_EXAMPLES = {
    "linear": "for example {rope_type: linear, factor: 4.0}",
    "dynamic": "for example {rope_type: dynamic, factor: 4.0}",
    "yarn": "for example {rope_type: yarn, factor: 4.0}",
    "longrope": "lists of as many numbers as half a head's, short_factor and long_factor",
    "llama3": "Llama 3.1 has low_freq_factor: 1.0, high_freq_factor: 4.0",
}


def _value_faults(key: str, values: Mapping[str, Any]) -> Iterator[Finding]:
    factor = values.get("factor")
    if factor is not None and not (_is_positive(factor) and factor >= 1):
        message = f"factor is {factor!r}, expected a number from 1: it says how many times longer texts may be"
        yield Finding(key, message, "for example factor: 4.0")
    original = values.get("original_max_position_embeddings")
    if original is not None and (isinstance(original, bool) or not isinstance(original, int) or original < 1):
        yield Finding(
            key, f"original_max_position_embeddings is {original!r}, expected a number of tokens", "for example 8192"
        )
    for name in ("rope_theta", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"):
        if name in values and not _is_positive(values[name]):
            yield Finding(key, f"{name} is {values[name]!r}, expected a number above 0", f"mend {name}")
    for name in ("short_factor", "long_factor"):
        listed = values.get(name)
        if listed is not None and not (isinstance(listed, list) and all(map(_is_positive, cast("list[Any]", listed)))):
            yield Finding(key, f"{name} is no list of numbers above 0", _EXAMPLES["longrope"])
    low: Any = values.get("low_freq_factor")
    high: Any = values.get("high_freq_factor")
    if _is_positive(low) and _is_positive(high) and low >= high:
        yield Finding(
            key, f"high_freq_factor is {high}, expected more than low_freq_factor, {low}", _EXAMPLES["llama3"]
        )


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
