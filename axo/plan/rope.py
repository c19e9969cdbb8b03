"""Rotary positions in a config.json: what they are, how a recipe changes them, how long a text they are made for.

Works on JSON, of files as they lie on disk (older ones say rope_scaling beside rope_theta) and of configs that
transformers has read (rope_parameters, which may be nested by kinds of layers)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, cast

from axo.errors import Finding
from axo.recipe.rope_rules import OF_ALL_TYPES, SCALINGS, AskedRope, is_nested

Config = Mapping[str, Any]

GLOBAL = "full_attention"
"""The kind of layers that sees whole texts: a scaling that is not nested is meant for these."""
_WITH_ORIGINAL = ("yarn", "longrope", "llama3")
_WITHOUT_ROTARY = frozenset(
    {"biogpt", "bloom", "codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "mpt", "openai-gpt", "opt"}
)


def rope_changes(text: Config, asked: AskedRope) -> dict[str, Any]:
    """Entries of the text part of a config that carry out what was asked. Only where `rope_faults` finds nothing.

    transformers needs complete parameters: theta and the part of a head that turns stay as they were. The position
    limit grows with the factor, as in published configs, so that other tools agree on it; `dynamic` computes with the
    limit before scaling, which stays."""
    current, new = rope_of(text), dict[str, Any]()
    if asked.is_nested:
        new = {
            **current,
            **{layer: _completed(text, current.get(layer) or {}, values) for layer, values in asked.values.items()},
        }
    elif is_nested(current):
        new = {**current, GLOBAL: _completed(text, current[GLOBAL] or {}, asked.values)}
    else:
        new = _completed(text, current, asked.values)
    name = "rope_parameters" if "rope_parameters" in text or asked.is_nested else "rope_scaling"
    changes: dict[str, Any] = {name: new}
    if name == "rope_scaling" and set(asked.values) == {"rope_theta"}:
        changes = {"rope_theta": asked.values["rope_theta"]}
    stretched = [_stretched(text, part) for part in _parts(asked.values) if part.get("rope_type")]
    limit = text.get("max_position_embeddings")
    if isinstance(limit, int) and any(length > limit for length in stretched):
        changes["max_position_embeddings"] = max(stretched)
    main = asked.values.get(GLOBAL, asked.values)
    if "original_max_position_embeddings" in text and "original_max_position_embeddings" in main:
        changes["original_max_position_embeddings"] = main["original_max_position_embeddings"]
    return changes


def rope_faults(text: Config, asked: AskedRope) -> Iterator[Finding]:
    """What of a recipe without faults of its own does not fit this model."""
    kind, current = text.get("model_type"), rope_of(text)
    if kind in _WITHOUT_ROTARY:
        yield Finding(asked.key, f"a {kind} has no rotary positions that could be scaled", f"remove {asked.key}")
        return
    layers = [layer for layer in current if isinstance(current[layer], dict)] if is_nested(current) else []
    if asked.is_nested and layers and (wrong := sorted(set(asked.values) - set(layers))):
        yield Finding(asked.key, f"the model has no layers {', '.join(wrong)}", f"its kinds: {', '.join(layers)}")
    elif layers and GLOBAL not in layers and not asked.is_nested:
        message = f"the rotary positions of this model differ by kinds of layers: {', '.join(layers)}"
        yield Finding(asked.key, message, "give a mapping for each kind that is meant")
    for part in _parts(asked.values):
        yield from _part_faults(text, asked.key, part)


def rope_of(text: Config) -> dict[str, Any]:
    """Rotary parameters as the config has them; {}: plain ones, which an older file need not mention."""
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(text.get(name), dict):
            return dict(cast("dict[str, Any]", text[name]))
    return {}


def main_rope(text: Config) -> dict[str, Any]:
    """Those of the layers that see whole texts."""
    current = rope_of(text)
    inner = current.get(GLOBAL) if is_nested(current) else current
    return dict(cast("dict[str, Any]", inner)) if isinstance(inner, dict) else {}


def rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def positions(text: Config) -> int | None:
    """Tokens that the model was made for, with what its rotary scaling adds; None: not known."""
    limit = _limit(text)
    rope = main_rope(text)
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if limit is None or not isinstance(factor, int | float):
        return limit
    if rope_type(rope) == "dynamic":
        return int(factor * limit)
    return max(limit, int(factor * original)) if isinstance(original, int) else limit


def fitting_factor(text: Config, length: int) -> float | None:
    """The factor with which the positions reach `length`; None where they cannot be scaled or are already."""
    limit, kind = _limit(text), text.get("model_type")
    if limit is None or kind in _WITHOUT_ROTARY or rope_type(main_rope(text)) != "default":
        return None
    return float(ceil(length / limit))


def original_length(text: Config) -> int | None:
    """Tokens that the model was made for before its positions were scaled."""
    rope, limit = main_rope(text), _limit(text)
    for place in (rope, text):
        if isinstance(place.get("original_max_position_embeddings"), int):
            return place["original_max_position_embeddings"]
    factor = rope.get("factor")
    if rope_type(rope) == "linear" and limit is not None and isinstance(factor, int | float) and factor > 0:
        return round(limit / factor)
    return limit


def _completed(text: Config, current: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    if "rope_type" not in asked:
        return {**current, **asked}
    kept = {name: value for name, value in current.items() if name in OF_ALL_TYPES or name not in _ALL_ENTRIES}
    completed = {**kept, **asked}
    completed.pop("type", None)
    if asked["rope_type"] in _WITH_ORIGINAL:
        completed.setdefault("original_max_position_embeddings", original_length(text))
    return completed


_ALL_ENTRIES = frozenset[str]().union(*(needed | allowed for needed, allowed in SCALINGS.values()))


def _stretched(text: Config, asked: Mapping[str, Any]) -> int:
    """Tokens that the scaled positions reach, as a config says it in max_position_embeddings."""
    factor = asked.get("factor")
    original = asked.get("original_max_position_embeddings", original_length(text))
    if asked["rope_type"] in ("default", "dynamic") or not isinstance(factor, int | float) or original is None:
        return 0
    return ceil(factor * original)


def _part_faults(text: Config, key: str, asked: Mapping[str, Any]) -> Iterator[Finding]:
    new, old = asked.get("rope_type"), rope_type(main_rope(text))
    if new == "yarn" and str(text.get("model_type")).startswith("phi3"):
        message = f"transformers computes longrope where a {text['model_type']} says yarn"
        yield Finding(key, message, "set rope_type: longrope, or linear")
    if new in _WITH_ORIGINAL and old not in ("default", new) and "original_max_position_embeddings" not in asked:
        message = f"the model's positions are scaled already ({old}), and {new} would replace that"
        yield Finding(key, message, "say original_max_position_embeddings: from how many tokens it is to stretch")
    pairs = _rotary_pairs(text)
    for name in ("short_factor", "long_factor"):
        listed = asked.get(name)
        if pairs is not None and isinstance(listed, list) and len(cast("list[Any]", listed)) != pairs:
            count = len(cast("list[Any]", listed))
            yield Finding(
                key, f"{name} has {count} numbers, expected {pairs}: half of a head's that turn", f"mend {name}"
            )


def _rotary_pairs(text: Config) -> int | None:
    width, heads, hidden = (text.get(name) for name in ("head_dim", "num_attention_heads", "hidden_size"))
    if not isinstance(width, int):
        width = hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None
    share = main_rope(text).get("partial_rotary_factor", text.get("partial_rotary_factor", 1.0))
    return None if width is None or not isinstance(share, int | float) else int(width * share) // 2


def _parts(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if not is_nested(values):
        return [values]
    return [cast("dict[str, Any]", value) for value in values.values() if isinstance(value, dict)]


def _limit(text: Config) -> int | None:
    limits = [text.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    return next((value for value in limits if isinstance(value, int) and value > 0), None)
