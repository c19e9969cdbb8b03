"""Lines of the Plan about entries of the model's config that a recipe replaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from axo.plan.model_config import text_name
from axo.plan.plan import Decision, decision, said
from axo.plan.rope import main_rope, original_length, positions, rope_type
from axo.recipe.recipe import Recipe
from axo.recipe.rope_rules import OVERRIDES, ROPE_ENTRIES, asked_rope

Config = Mapping[str, Any]

LONGEST = 60
"""Characters of a value that a line shows."""


def changes_said(recipe: Recipe, config: Config, stored: Config | None) -> Iterator[Decision]:
    """What differs in `config`, which is loaded, from `stored`, which lies on disk."""
    yield from _unlike(recipe, _text(config))
    if stored is None:
        return
    text, before = _text(config), _text(stored)
    asked = asked_rope(recipe.model)
    if asked is not None:
        kind = rope_type(main_rope(text))
        effective = f"{kind}{_by(main_rope(text))}, {positions(text) or 'unknown'} positions"
        yield decision(asked.key, _shown(asked.values), effective, _rope_why(recipe, before, text))
    given = recipe.model.overrides_of_model_config or {}
    names = [name for name in given if name not in (*ROPE_ENTRIES, "rope_theta")]
    if names:
        effective = ", ".join(f"{name}: {_shown(_entry(config, name))}" for name in names)
        why = "instead of " + ", ".join(f"{name}: {_shown(_entry(stored, name))}" for name in names)
        yield decision(OVERRIDES, _shown({name: given[name] for name in names}), effective, why)
    if given.get("output_router_logits"):
        why = "the loss is that of the tokens alone: what balances a router's load is no part of it"
        yield decision(OVERRIDES, "output_router_logits: true", "no balancing loss", why).model_copy(
            update={"warning": True}
        )


def _rope_why(recipe: Recipe, before: Config, text: Config) -> str:
    old, new = rope_type(main_rope(before)), rope_type(main_rope(text))
    why = "set in the config before the model is built, and saved with it"
    if old not in ("default", new):
        why = f"replaces the {old} of the model; {why}"
    if recipe.adapters.adapter is not None:
        why += "; the adapter alone belongs to a base with the same entries: merge it, or load the base with them"
    return why


def _unlike(recipe: Recipe, text: Config) -> Iterator[Decision]:
    """Scalings that depend on what else is in a micro-batch."""
    kind, length = rope_type(main_rope(text)), recipe.data.sequence_len
    limit = text.get("max_position_embeddings") if kind == "dynamic" else original_length(text)
    if kind not in ("dynamic", "longrope") or not isinstance(limit, int) or length <= limit:
        return
    how = "grow with" if kind == "dynamic" else "are those for long texts after"
    why = f"rotary frequencies {how} the longest row or sample of a micro-batch, where it is longer than {limit} tokens"
    line = decision("sequence_len", length, f"{length} tokens, {kind} positions", why)
    yield line.model_copy(update={"warning": True})


def _by(rope: Mapping[str, Any]) -> str:
    factor = rope.get("factor")
    return f" by {factor:g}" if isinstance(factor, int | float) else ""


def _text(config: Config) -> Config:
    name = text_name(config)
    return config if name is None else config[name]


def _entry(config: Config, name: str) -> Any:
    return config.get(name, _text(config).get(name))


def _shown(value: Any) -> str:
    text = said(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
