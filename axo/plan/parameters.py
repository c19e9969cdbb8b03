"""How many parameters a model has and how many of them a recipe trains, without loading the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

from axo.plan.hub_cache import cached_file
from axo.plan.parameters_architecture import Architecture, NotKnown
from axo.plan.parameters_families import architecture
from axo.plan.parameters_lora import count_lora
from axo.plan.parameters_shapes import Shapes, read_shapes
from axo.plan.places import can_be_hub_name
from axo.plan.unfrozen import Pattern, read_patterns, rows_of
from axo.recipe.adapters import AdapterSection

LORA_ADAPTERS = ("lora", "qlora")
CHOOSE_PARAMETERS = ("lisa_n_layers", "spectrum_model_name")
"""Keys that train only a part of the model without an adapter."""


@dataclass(frozen=True)
class ParameterCounts:
    """Exact numbers, or None for what cannot be known before the model is built."""

    total: int | None = None
    """Of the base model, a tied output head counted once, quantised weights as if they were not."""
    trainable: int | None = None
    """All of them, or the adapter's and those that lora_modules_to_save trains in full."""
    adapter: int | None = None
    """Of these the new ones beside the base model: low-rank matrices; 0 for full fine-tuning."""
    reason: str | None = None
    """Why a number is None."""
    trained: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Name and shape of what is trained beside frozen weights."""


def find_parameters(
    section: AdapterSection, *, base_model: str, revision: str | None, model_config: Mapping[str, Any] | None
) -> ParameterCounts:
    """The counts of the model in a folder or in the hub's cache on this machine; see count_parameters."""
    folder = find_folder(base_model, revision=revision)
    stored = None if folder is None else read_shapes(folder).shapes
    return count_parameters(section, model_config=model_config, shapes=stored)


def find_folder(base_model: str, *, revision: str | None = None) -> Path | None:
    """The model's folder: base_model itself, or its snapshot in the hub's cache; None where it is not here."""
    folder = Path(base_model)
    if folder.is_dir():
        return folder
    cached = cached_file(base_model, "config.json", revision=revision) if can_be_hub_name(base_model) else None
    return None if cached is None else cached.parent


def count_parameters(
    section: AdapterSection,
    *,
    model_config: Mapping[str, Any] | None,
    shapes: Shapes | None = None,
) -> ParameterCounts:
    """Counts from config.json by closed formulas; `shapes`, where the weights are here, must not contradict them.

    The formulas come first because they have the modules that transformers builds: checkpoints hold experts apart that
    the model fuses. Rows that new tokens add to the embeddings are left out: how many there are only the tokenizer
    knows."""
    if model_config is None:
        return ParameterCounts(reason="the model's config.json is not on this machine")
    try:
        _check_stored(model_config, shapes or {})
        model = architecture(model_config)
        _compare(model, model_config, shapes or {})
    except NotKnown as error:
        return ParameterCounts(reason=str(error))
    try:
        if section.adapter is None:
            return _full(section, model)
        if section.adapter not in LORA_ADAPTERS:
            raise NotKnown(f"how many parameters adapter {section.adapter} has is not known to axo")
        counts = count_lora(section, model=model, model_type=str(model_config["model_type"]))
    except NotKnown as error:
        return ParameterCounts(total=model.total, reason=str(error))
    return ParameterCounts(model.total, counts.low_rank + counts.in_full, counts.low_rank, trained=counts.table)


def _full(section: AdapterSection, model: Architecture) -> ParameterCounts:
    for key in CHOOSE_PARAMETERS:
        if getattr(section, key, None):
            raise NotKnown(f"{key} chooses which parameters are trained")
    if not section.unfrozen_parameters:
        return ParameterCounts(model.total, model.total, 0)
    patterns = read_patterns(section.unfrozen_parameters)
    chosen = [(name, shape) for name, shape in model.parameters.items() if any(one.matches(name) for one in patterns)]
    sizes = [_trained_size(patterns, name, shape) for name, shape in chosen]
    return ParameterCounts(model.total, sum(sizes), 0, trained=tuple(chosen))


def _trained_size(patterns: Sequence[Pattern], name: str, shape: tuple[int, ...]) -> int:
    rows = rows_of(patterns, name=name, num_rows=shape[0])
    return prod(shape) if rows is None else len({row for part in rows for row in part}) * prod(shape[1:])


def _check_stored(model_config: Mapping[str, Any], shapes: Shapes) -> None:
    method = _quantisation(model_config)
    if method not in (None, "bitsandbytes", "gptq"):
        raise NotKnown(f"the weights are quantised ({method}), which changes what is a linear layer")
    if method is None and any(name.endswith((".qweight", ".quant_map", ".SCB")) for name in shapes):
        raise NotKnown("the weights are quantised, but config.json does not say how")


def _quantisation(model_config: Mapping[str, Any]) -> str | None:
    """quant_method of config.json; bitsandbytes and GPTQ quantise linear layers, and an adapter finds these as such."""
    section = model_config.get("quantization_config")
    if not section:
        return None
    named = cast("dict[str, Any]", section).get("quant_method") if isinstance(section, dict) else None
    return str(named or "in a way that config.json does not name")


def _compare(model: Architecture, model_config: Mapping[str, Any], shapes: Shapes) -> None:
    if _quantisation(model_config) is not None:
        return  # packed weights have shapes of their own
    for name, shape in model.parameters.items():
        if shapes.get(name, shape) != shape:
            raise NotKnown(f"{name} is stored as {shapes[name]}, config.json says {shape}")
