"""The config of a model as the recipe changes it, read and held against its class by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig

from axo.errors import Finding, RecipeError
from axo.plan.model_checks import text_part
from axo.plan.model_config import changed_config, class_faults, config_faults
from axo.plan.rope import is_nested, rope_of
from axo.recipe.model import ModelSection
from axo.recipe.rope_rules import OVERRIDES, ROPE_ENTRIES, AskedRope, asked_rope
from axo.registry.registry import did_you_mean


def config_class(name: str | None) -> Any:
    """The class of transformers that reads the config. Raises RecipeError where there is none of that name."""
    if name in (None, "AutoConfig"):
        return AutoConfig
    found = getattr(transformers, str(name), None)
    if isinstance(found, type) and issubclass(found, PreTrainedConfig):
        return found
    near = did_you_mean(str(name), [known for known in dir(transformers) if known.endswith("Config")])
    message = f"transformers has no config class {name}"
    raise RecipeError([Finding("cls_model_config", message, near or "leave cls_model_config out")])


def check_class(section: ModelSection, stored: Mapping[str, Any]) -> None:
    """Raise RecipeError where the class that is asked for does not read this config.json."""
    findings = [*class_faults(section.cls_model_config, stored)]
    if findings:
        raise RecipeError(findings)


def configured(config: Any, section: ModelSection) -> Any:
    """`config` with the recipe's overrides, checked by its class; the same object where there are none.

    Raises RecipeError for entries that the class does not know, and for values that it does not take."""
    if not section.overrides_of_model_config and asked_rope(section) is None:
        return config
    whole = config.to_dict()
    findings = _unknown(config, whole, section) or [*config_faults(section, whole)]
    if findings:
        raise RecipeError(findings)
    asked = asked_rope(section)
    changed = dict(changed_config(section, whole))
    try:
        made = type(config).from_dict(changed)
    except Exception as error:  # a config class checks in its own way
        key = OVERRIDES if asked is None else asked.key
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        message = f"{type(config).__name__} does not take these values: {reason}"
        raise RecipeError([Finding(key, message, "compare them with the model's config.json")]) from error
    made.name_or_path = config.name_or_path
    if asked is not None:
        _check_taken(made, asked, changed)
    return made


def _unknown(config: Any, whole: Mapping[str, Any], section: ModelSection) -> list[Finding]:
    text = text_part(whole)
    own = {*whole, *text, *getattr(config, "attribute_map", {})}
    findings: list[Finding] = []
    for name in section.overrides_of_model_config or {}:
        if name in own or name in (*ROPE_ENTRIES, "rope_theta"):
            continue
        near = did_you_mean(name, own)
        message = f"{type(config).__name__} has no entry {name!r}"
        findings.append(Finding(OVERRIDES, message, near or "its entries are those of the model's config.json"))
    asked = asked_rope(section)
    if asked is not None and "rope_parameters" not in text and not rope_of(text) and "rope_theta" not in text:
        message = f"{type(config).__name__} describes no rotary positions that could be scaled"
        findings.append(Finding(asked.key, message, f"remove {asked.key}"))
    return findings


def _check_taken(config: Any, asked: AskedRope, wanted: Mapping[str, Any]) -> None:
    """Some classes rewrite what they are given: phi3 takes longrope where yarn was said."""
    made, planned = rope_of(text_part(config.to_dict())), rope_of(text_part(wanted))
    pairs = (
        [(made[name], planned[name]) for name in planned if name in made] if is_nested(planned) else [(made, planned)]
    )
    for found, meant in pairs:
        for name in meant if isinstance(meant, dict) else ():
            if found.get(name) != meant[name]:
                message = f"{type(config).__name__} makes {name}: {found.get(name)} of {name}: {meant[name]}"
                raise RecipeError([Finding(asked.key, message, "this class of transformers cannot be scaled so")])
