"""What a recipe does, without doing it: its keys one by one, and the run in one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from axo.data.source import is_local, kind, source_files
from axo.errors import DataError
from axo.plan.estimate import DataEstimate, estimate_data, estimate_steps
from axo.plan.explain import Explained, explain
from axo.plan.facts import Facts
from axo.plan.parameters import find_parameters
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.plan.summary import Summary, summarise
from axo.recipe.read import LoadedRecipe

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry


@dataclass(frozen=True)
class Explanation:
    plan: Plan
    keys: Sequence[Explained]
    run: Summary


def explain_recipe(loaded: LoadedRecipe, facts: Facts) -> Explanation:
    """Loads no model and tokenises nothing; asks no network. Reads config.json, headers of weights and data files."""
    recipe = loaded.recipe
    plan = resolve(recipe, facts)
    model = recipe.model
    parameters = find_parameters(
        recipe.adapters,
        base_model=model.base_model,
        revision=model.revision_of_model,
        model_config=facts.model_config,
    )
    data = _estimate(recipe.data.datasets)
    evaluation = _estimate(recipe.data.test_datasets) if recipe.data.test_datasets else None
    steps = estimate_steps(data, section=recipe.data, batch=plan.batch, run=recipe.run)
    summary = summarise(recipe, plan, facts=facts, parameters=parameters, data=data, evaluation=evaluation, steps=steps)
    return Explanation(plan, explain(loaded, plan), summary)


def _estimate(entries: Sequence[DatasetEntry]) -> DataEstimate:
    return estimate_data(entries, files_of=_files)


def _files(entry: DatasetEntry) -> list[tuple[Path, str]]:
    """Local files with their kinds; none for a hub data set, nor where the path is wrong, which preparing will say."""
    try:
        return [(file, kind(file, entry)) for file in source_files(entry)] if is_local(entry) else []
    except DataError:
        return []
