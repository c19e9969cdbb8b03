"""The config of the model as a recipe changes it: on JSON, so that the Plan sees what will be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast

from axo.errors import Finding
from axo.plan.rope import rope_changes, rope_faults
from axo.recipe.model import ModelSection
from axo.recipe.rope_rules import OVERRIDES, ROPE_ENTRIES, asked_rope

Config = Mapping[str, Any]


def changed_config(section: ModelSection, config: Config) -> Config:
    """`config` with the recipe's overrides and rotary positions; the same object where nothing is asked for.

    Only where `config_faults` finds nothing."""
    chosen = of_class(section.cls_model_config, config)
    asked = asked_rope(section)
    given = {
        name: value
        for name, value in (section.overrides_of_model_config or {}).items()
        if name not in (*ROPE_ENTRIES, "rope_theta")
    }
    if asked is None and not given:
        return chosen
    inner = text_name(chosen)
    if asked is not None:
        text = chosen if inner is None else chosen[inner]
        changes = rope_changes(text, asked)
        chosen = _merged(chosen, changes if inner is None else {inner: changes}, replaced=ROPE_ENTRIES)
    for name, value in given.items():
        inside = inner is not None and name not in chosen and name in chosen[inner]
        chosen = _merged(chosen, {inner: {name: value}} if inside and inner is not None else {name: value})
    return chosen


def config_faults(section: ModelSection, config: Config) -> Iterator[Finding]:
    """What of the recipe does not fit this config.json. Names that it lacks may be names of its class all the same:
    loading compares them with that, so that only what is nearly one of its own is refused here."""
    yield from class_faults(section.cls_model_config, config)
    chosen = of_class(section.cls_model_config, config)
    inner = text_name(chosen)
    asked = asked_rope(section)
    if asked is not None:
        yield from rope_faults(chosen if inner is None else chosen[inner], asked)
    own = {*chosen, *(() if inner is None else chosen[inner]), *_COMMON}
    for name in section.overrides_of_model_config or {}:
        near = get_close_matches(name, own, n=1, cutoff=_TYPO)
        if name not in own and near:
            yield Finding(OVERRIDES, f"the config of the model has no entry {name!r}", f"did you mean {near[0]!r}?")


def of_class(name: str | None, config: Config) -> Config:
    """The part of a config that the class `name` reads: the part about text of one that also sees images, as
    Gemma3TextConfig of a Gemma3Config. The whole where no part has such a name."""
    parts = (cast("dict[str, Any]", value) for value in config.values() if isinstance(value, dict))
    return next((part for part in (config, *parts) if _is_of(name, part)), config)


def class_faults(name: str | None, config: Config) -> Iterator[Finding]:
    """Whether the class `name` reads this config.json, or a part of it."""
    if not _is_of(name, of_class(name, config)):
        message = f"is {name}, but config.json describes a model of type {config.get('model_type')!r}"
        yield Finding("cls_model_config", message, "leave cls_model_config out: the config decides")


def text_name(config: Config) -> str | None:
    """Where the part about the language model lies; None: it is the config itself."""
    return "text_config" if isinstance(config.get("text_config"), dict) else None


def _is_of(name: str | None, part: Config) -> bool:
    """Classes are called as the types that they read: Gemma3TextConfig, gemma3_text."""
    wanted = "" if name in (None, "AutoConfig") else str(name).removesuffix("Config")
    kind = str(part.get("model_type", ""))
    return not wanted or _letters(wanted) == _letters(kind)


def _letters(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


_TYPO = 0.9
_COMMON = frozenset(
    """
    rope_parameters rope_scaling rope_theta max_position_embeddings sliding_window use_sliding_window max_window_layers
    layer_types attention_dropout attn_pdrop resid_pdrop embd_pdrop hidden_dropout output_router_logits
    router_aux_loss_coef router_jitter_noise num_experts_per_tok attn_logit_softcapping final_logit_softcapping
    tie_word_embeddings use_cache text_config
    """.split()
)


def _merged(config: Config, changes: Config, *, replaced: tuple[str, ...] = ()) -> dict[str, Any]:
    """Mappings are merged entry by entry, except those that are `replaced` as a whole."""
    merged = dict(config)
    for name, value in changes.items():
        before = merged.get(name)
        if isinstance(value, dict) and isinstance(before, dict) and name not in replaced:
            value = _merged(cast("dict[str, Any]", before), cast("dict[str, Any]", value), replaced=replaced)
        merged[name] = value
    return merged
