"""Names in a recipe's adapter keys that the model does not have, found before the model is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from axo.errors import Finding
from axo.plan.layer_numbers import layer_number
from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.parameters_targets import ends, target_modules, target_parameters
from axo.plan.unfrozen import faults, read_patterns, rows_of
from axo.recipe.adapters import AdapterSection


def wrong_names(section: AdapterSection, config: Mapping[str, Any]) -> Iterator[Finding]:
    """`config` is the model's config.json. Nothing is found on a model whose layers are not known to axo."""
    try:
        model = architecture(config)
    except NotKnown:
        return
    if section.adapter is None:
        yield from _unfrozen(section, model)
        return
    found = [*_parameters(section, model), *_layers(section, model, str(config.get("model_type")))]
    yield from found
    if not found:
        yield from _patterns(section, model, str(config.get("model_type")))


def _unfrozen(section: AdapterSection, model: Architecture) -> Iterator[Finding]:
    patterns = read_patterns(section.unfrozen_parameters or [])
    yield from faults(patterns, model.parameters)
    for name, shape in model.parameters.items():
        rows_of(patterns, name=name, num_rows=shape[0])


def _parameters(section: AdapterSection, model: Architecture) -> Iterator[Finding]:
    asked = section.lora_target_parameters
    for pattern in [asked] if isinstance(asked, str) else asked or []:
        if not any(ends(name, pattern) for name in model.parameters):
            deep = sorted({_layerless(name) for name, shape in model.parameters.items() if len(shape) == 3})
            hint = f"parameters with experts: {', '.join(deep)}" if deep else "this model has no experts in one tensor"
            yield Finding("lora_target_parameters", f"{pattern!r} matches no parameter of the model", hint)


def _layers(section: AdapterSection, model: Architecture, model_type: str) -> Iterator[Finding]:
    asked = section.peft_layers_to_transform
    if not asked:
        return
    everywhere = section.model_copy(update={"peft_layers_to_transform": None})
    try:
        names = {*target_modules(everywhere, model, model_type), *target_parameters(everywhere, model)}
        there = {number for name in names if (number := layer_number(name, section.peft_layers_pattern)) is not None}
    except (NotKnown, re.error):
        return
    absent = [str(number) for number in sorted({*asked} - there)]
    if absent:
        there_are = f"layers {min(there)} to {max(there)}" if there else "no numbered layers"
        message = f"names layers {', '.join(absent)}, and the targets are in {there_are}"
        yield Finding("peft_layers_to_transform", message, "layers count from 0")


def _patterns(section: AdapterSection, model: Architecture, model_type: str) -> Iterator[Finding]:
    try:
        names = [*target_modules(section, model, model_type), *target_parameters(section, model)]
    except NotKnown:
        return
    for key in ("lora_rank_pattern", "lora_alpha_pattern"):
        patterns: dict[str, int] = getattr(section, key) or {}
        for pattern in patterns:
            try:
                matched = any(re.match(rf"(.*\.)?({pattern})$", name) for name in names)
            except re.error as error:
                hint = "give the end of a module's name, or a regular expression"
                yield Finding(f"{key}.{pattern}", f"{pattern!r} is no regular expression: {error}", hint)
                continue
            if not matched:
                last = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
                message = f"{pattern!r} matches no target of the adapter"
                yield Finding(f"{key}.{pattern}", message, f"targets: {last}")


def _layerless(name: str) -> str:
    return re.sub(r"^.*?\.\d+\.", "", name)
