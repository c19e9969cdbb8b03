"""A recipe: its sections, and the router that moves each flat key to the section that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from axo.errors import Finding, RecipeError
from axo.recipe.adapters import AdapterSection
from axo.recipe.batch import BatchSection
from axo.recipe.checkpoint import CheckpointSection
from axo.recipe.data import DataSection
from axo.recipe.engines import EngineSection
from axo.recipe.evaluation import EvaluationSection
from axo.recipe.extensions import ExtensionSection
from axo.recipe.faults import faults
from axo.recipe.inference import InferenceSection
from axo.recipe.kernels import KernelSection
from axo.recipe.model import ModelSection
from axo.recipe.multimodal import MultimodalSection
from axo.recipe.objectives import ObjectiveSection
from axo.recipe.optim import OptimSection
from axo.recipe.precision import PrecisionSection
from axo.recipe.preferences import PreferenceSection
from axo.recipe.quantization import QuantizationSection
from axo.recipe.renamed import known_names
from axo.recipe.run import RunSection
from axo.recipe.section import Section, alternatives, nested
from axo.recipe.tokenizer import TokenizerSection
from axo.recipe.tracking import TrackingSection
from axo.registry.registry import did_you_mean


class Recipe(Section):
    """All sections. Code gets the section it needs, never this."""

    run: RunSection
    model: ModelSection
    tokenizer: TokenizerSection
    data: DataSection
    batch: BatchSection
    adapters: AdapterSection
    quantization: QuantizationSection
    optim: OptimSection
    precision: PrecisionSection
    objectives: ObjectiveSection
    engines: EngineSection
    checkpoint: CheckpointSection
    evaluation: EvaluationSection
    tracking: TrackingSection
    preferences: PreferenceSection
    multimodal: MultimodalSection
    kernels: KernelSection
    inference: InferenceSection
    extensions: ExtensionSection


SECTIONS: Mapping[str, type[Section]] = {
    name: cast("type[Section]", field.annotation) for name, field in Recipe.model_fields.items()
}
_REQUIRED = frozenset(
    name for name, section in SECTIONS.items() if any(field.is_required() for field in section.model_fields.values())
)
_OWNERS: Mapping[str, str] = {key: name for name, section in SECTIONS.items() for key in section.model_fields}


def owner_of(key: str) -> str | None:
    """Name of the section that owns a top-level key, or None for a key that no section has."""
    return _OWNERS.get(key)


def is_switch(key: str) -> bool:
    """Whether a top-level key takes true or false."""
    owner = owner_of(key)
    return owner is not None and bool in alternatives(SECTIONS[owner].model_fields[key].annotation)


def recipe_from_flat(flat: Mapping[str, Any]) -> Recipe:
    """The recipe of a resolved flat mapping, as LoadedRecipe.flat has it. Raises RecipeError with all type faults."""
    recipe = build(flat)
    if isinstance(recipe, Recipe):
        return recipe
    raise RecipeError(recipe)


def build(flat: Mapping[str, Any]) -> Recipe | list[Finding]:
    """The recipe, or every unknown key, missing key and wrong type at once."""
    shares: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    findings: list[Finding] = []
    for key, value in flat.items():
        owner = owner_of(key)
        if owner is None:
            findings.append(Finding(key, "unknown key", where_it_belongs(key)))
        else:
            shares[owner][key] = value
    sections: dict[str, Section] = {}
    for name, section in SECTIONS.items():
        if not shares[name] and name not in _REQUIRED:
            sections[name] = section.model_construct()  # far faster: its validator need not be built
            continue
        try:
            sections[name] = section.model_validate(shares[name])
        except ValidationError as error:
            findings.extend(faults(error, section=section, given=shares[name]))
    if "datasets" not in flat and "pretraining_dataset" not in flat:
        findings.append(Finding("datasets", "this key is missing", "expected a list of mappings, at least one"))
    return findings or Recipe.model_construct(**cast("dict[str, Any]", sections))


def where_it_belongs(key: str) -> str | None:
    """The nearest names; and the block that has `key` or a name near it, where it stands outside of its block."""
    blocks: dict[str, list[str]] = {}
    for section in SECTIONS.values():
        for outer, field in section.model_fields.items():
            inner = nested(field.annotation)
            for name in () if inner is None else inner.model_fields:
                blocks.setdefault(name, []).append(outer)
    near = did_you_mean(key, (*_OWNERS, *known_names()))
    if key in blocks:
        inside = f"it is a key inside {' or '.join(blocks[key])}"
        return inside if near is None else f"{near} (or, {inside})"
    if near is not None:
        return near
    inner_near = did_you_mean(key, blocks)
    return inner_near and f"{inner_near} (a key inside a block, as datasets has)"
