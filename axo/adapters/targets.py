"""Which modules and parameters of a model get low-rank matrices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from axo.adapters.names import ends, last_parts, listed, matcher
from axo.errors import Finding, RecipeError
from axo.plan.experts import EXPERT_PARAMETERS, REMAPPED, rewritten
from axo.plan.layer_numbers import layer_number
from axo.recipe.adapters import AdapterSection

ALL_LINEAR = "all-linear"
LINEAR = (torch.nn.Linear, Conv1D)
ADAPTABLE = (*LINEAR, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)

Modules = Mapping[str, torch.nn.Module]


@dataclass(frozen=True)
class Targets:
    modules: Sequence[str]
    """Full names, sorted."""
    parameters: Sequence[str]
    """Full names, sorted, of parameters that no module of their own computes with."""
    written: str | list[str]
    """What adapter_config.json gets for the modules: the recipe's own words where peft understands them."""


def linear_modules(model: Any) -> list[str]:
    """Names of all linear layers except the output head."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if is_linear(module) and module is not head]


def is_linear(module: torch.nn.Module) -> bool:
    """A linear layer, of gptqmodel too, whose layers are none of torch's (those of bitsandbytes are)."""
    return isinstance(module, LINEAR) or hasattr(module, "qweight")


def find_targets(section: AdapterSection, model: Any, modules: Modules) -> Targets:
    """Raises RecipeError where a name matches nothing, or something that cannot have an adapter."""
    parameters = _parameters(section, model)
    chosen = _modules(section, model, modules, optional=bool(parameters))
    _check_twice(chosen, parameters)
    within = _in_layers(section, chosen)
    if len(within) < len(chosen):
        return Targets(within, _in_layers(section, parameters), within)
    return Targets(within, _in_layers(section, parameters), _as_written(section, model) or within)


def all_linear(model: Any) -> list[str]:
    """What `all-linear` means on this model: where experts are stored as one tensor, peft takes some names for parts of
    these, and no adapter can be asked for on a linear layer of such a name."""
    linear = linear_modules(model)
    taken = {*rewritten(linear, _type(model))}
    return [name for name in linear if name not in taken]


def _modules(section: AdapterSection, model: Any, modules: Modules, *, optional: bool) -> list[str]:
    asked = section.lora_target_modules
    patterns = [asked] if isinstance(asked, str) else list(asked or [])
    chosen = set(all_linear(model)) if section.lora_target_linear or ALL_LINEAR in patterns else set[str]()
    findings: list[Finding] = []
    for pattern in patterns:
        if pattern != ALL_LINEAR:
            matches = matcher(pattern, regular=isinstance(asked, str), key="lora_target_modules")
            matched = {name for name in modules if name and matches(name)}
            findings += _unfit(pattern, matched, model, modules)
            chosen |= matched
    if not findings and not chosen and not optional:
        findings.append(Finding("lora_target_modules", "names no module", "set it, or lora_target_linear: true"))
    if findings:
        raise RecipeError(findings)
    return sorted(chosen)


def _unfit(pattern: str, matched: set[str], model: Any, modules: Modules) -> Iterator[Finding]:
    key, of_experts = "lora_target_modules", _type(model) in REMAPPED
    unfit = sorted(name for name in matched if not (isinstance(modules[name], ADAPTABLE) or is_linear(modules[name])))
    taken = rewritten(matched, _type(model))
    parameters = f"for the experts set lora_target_parameters: [{', '.join(EXPERT_PARAMETERS)}]"
    if not matched:
        hint = f"linear layers of this model: {last_parts(linear_modules(model))}"
        hint = f"{hint}; {parameters}" if of_experts else hint
        yield Finding(key, f"{pattern!r} matches no module of the model", hint)
    elif unfit:
        message = f"{pattern!r} names {listed(unfit)}, which is no linear layer and cannot have an adapter"
        yield Finding(key, message, parameters if of_experts else "name linear layers, or use all-linear")
    elif taken:
        message = f"{pattern!r} names {listed(taken)}, which peft takes for parts of experts on a {_type(model)}"
        yield Finding(key, message, f"leave these layers out; {parameters}")


def _parameters(section: AdapterSection, model: Any) -> list[str]:
    asked = section.lora_target_parameters
    patterns = [asked] if isinstance(asked, str) else list(asked or [])
    stored = dict(model.named_parameters())
    findings: list[Finding] = []
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in stored if ends(name, pattern)}
        unfit = sorted(name for name in matched if stored[name].ndim not in (2, 3))
        if not matched:
            deep = sorted({_layerless(name) for name, parameter in stored.items() if parameter.ndim == 3})
            hint = f"parameters with experts: {listed(deep)}" if deep else "this model has no experts in one tensor"
            findings.append(Finding("lora_target_parameters", f"{pattern!r} matches no parameter of the model", hint))
        elif unfit:
            message = f"{pattern!r} names {listed(unfit)}, which is no matrix"
            findings.append(Finding("lora_target_parameters", message, "name parameters of two or three dimensions"))
        chosen |= matched
    if findings:
        raise RecipeError(findings)
    return sorted(chosen)


def _check_twice(modules: Iterable[str], parameters: Iterable[str]) -> None:
    owners = {name.rpartition(".")[0] for name in parameters}
    twice = sorted(owners & set(modules))
    if twice:
        message = f"{listed(twice)} would have an adapter by lora_target_modules too"
        raise RecipeError([Finding("lora_target_parameters", message, "name a layer in only one of the two")])


def _in_layers(section: AdapterSection, names: Sequence[str]) -> list[str]:
    """Those in the layers of peft_layers_to_transform."""
    asked = section.peft_layers_to_transform
    if not asked:
        return list(names)
    layer_of = {name: _layer(name, section) for name in names}
    there = {index for index in layer_of.values() if index is not None}
    absent = sorted(set(asked) - there)
    if names and absent:
        there_are = f"layers {min(there)} to {max(there)}" if there else "no numbered layers"
        message = f"names layers {listed([str(index) for index in absent])}, and the targets are in {there_are}"
        hint = "layers count from 0; peft_layers_pattern names the list that is counted in, for example layers"
        raise RecipeError([Finding("peft_layers_to_transform", message, hint)])
    return [name for name in names if layer_of[name] in asked]


def _layer(name: str, section: AdapterSection) -> int | None:
    try:
        return layer_number(name, section.peft_layers_pattern)
    except re.error as error:
        message, hint = f"holds no regular expression: {error}", "give the name of a list of layers, for example layers"
        raise RecipeError([Finding("peft_layers_pattern", message, hint)]) from error


def _as_written(section: AdapterSection, model: Any) -> str | list[str] | None:
    """The recipe's own targets, which keep adapter_config.json short, where peft reads them as axo does."""
    asked = section.lora_target_modules
    by_kind = section.lora_target_linear or isinstance(asked, str)
    if by_kind and (_type(model) in REMAPPED or any(hasattr(module, "qweight") for module in model.modules())):
        return None  # peft would add experts, or find no layer of gptqmodel
    if section.lora_target_linear:
        return ALL_LINEAR if asked in (None, [], ALL_LINEAR, [ALL_LINEAR]) else None
    return None if isinstance(asked, list) and ALL_LINEAR in asked else asked


def _layerless(name: str) -> str:
    """What stands behind the number of the layer."""
    return re.sub(r"^.*?\.\d+\.", "", name)


def _type(model: Any) -> str | None:
    return getattr(model.config, "model_type", None)
