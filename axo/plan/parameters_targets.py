"""Which modules and parameters a LoRA adapter changes, matched as axo and peft do it, without either's libraries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from axo.plan.experts import rewritten
from axo.plan.layer_numbers import layer_number
from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.recipe.adapters import AdapterSection

ALL_LINEAR = "all-linear"


def matching(pattern: str, model: Architecture, *, regular: bool) -> set[str]:
    """Full names of the modules that a target means; see _matcher."""
    matches = _matcher(pattern, regular=regular)
    return {name for name in module_names(model) if matches(name)}


def target_modules(section: AdapterSection, model: Architecture, model_type: str) -> set[str]:
    """Full names of the modules that get an adapter, as axo/adapters/targets.py chooses them."""
    asked, modules = section.lora_target_modules, module_names(model)
    patterns = [asked] if isinstance(asked, str) else list(asked or [])
    chosen: set[str] = set()
    if section.lora_target_linear or ALL_LINEAR in patterns:
        linear = model.linear - {model.head}
        chosen = {*linear} - {*rewritten(linear, model_type)}
    for pattern in patterns:
        if pattern != ALL_LINEAR:
            matches = _matcher(pattern, regular=isinstance(asked, str))
            chosen |= _fit({name for name in modules if matches(name)}, pattern, model, model_type)
    if not chosen and not section.lora_target_parameters:
        raise NotKnown("lora_target_modules names no module")
    return _in_layers(chosen, section)


def target_parameters(section: AdapterSection, model: Architecture) -> list[str]:
    """Full names of the parameters of lora_target_parameters, in the order of the model."""
    asked = section.lora_target_parameters
    patterns = [asked] if isinstance(asked, str) else list(asked or [])
    for pattern in patterns:
        matched = [name for name in model.parameters if ends(name, pattern)]
        if not matched or any(len(model.parameters[name]) not in (2, 3) for name in matched):
            raise NotKnown(f"{pattern!r} of lora_target_parameters matches no parameter of the model, or no matrix")
    chosen = _in_layers({name for name in model.parameters if any(ends(name, one) for one in patterns)}, section)
    return [name for name in model.parameters if name in chosen]


def module_names(model: Architecture) -> frozenset[str]:
    """Every module with parameters, itself or inside it."""
    names = {model.head}
    for parameter in model.parameters:
        parts = parameter.split(".")[:-1]
        names.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return frozenset(names)


def _fit(matched: set[str], pattern: str, model: Architecture, model_type: str) -> set[str]:
    if not matched:
        raise NotKnown(f"{pattern!r} of lora_target_modules matches no module of the model")
    if not matched <= model.linear | model.lookup:
        raise NotKnown(f"{pattern!r} of lora_target_modules names more than linear layers")
    if rewritten(matched, model_type):
        raise NotKnown(f"peft takes {pattern!r} of lora_target_modules for parts of experts on a {model_type}")
    return matched


def _in_layers(names: Iterable[str], section: AdapterSection) -> set[str]:
    asked = section.peft_layers_to_transform
    if not asked:
        return {*names}
    try:
        numbers = {name: layer_number(name, section.peft_layers_pattern) for name in names}
    except re.error as error:
        raise NotKnown(f"peft_layers_pattern holds no regular expression: {error}") from None
    if numbers and not {*asked} <= {*numbers.values()}:
        raise NotKnown("peft_layers_to_transform names a layer without a target")
    return {name for name, number in numbers.items() if number in asked}


def _matcher(pattern: str, *, regular: bool) -> Callable[[str], bool]:
    """As peft (tuners_utils.check_target_module_exists): a list holds (ends of) names, a string is one regular
    expression for whole names."""
    if not regular:
        return lambda name: ends(name, pattern)
    expression = compiled(pattern)
    return lambda name: expression.fullmatch(name) is not None


def compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise NotKnown(f"{pattern!r} is no regular expression: {error}") from None


def ends(name: str, pattern: str) -> bool:
    return name == pattern or name.endswith(f".{pattern}")
