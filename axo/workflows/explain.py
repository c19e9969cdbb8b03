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
from axo.plan.model_checks import text_part
from axo.plan.parameters import find_parameters
from axo.plan.plan import Plan
from axo.plan.resolve import resolve
from axo.plan.summary import Summary, summarise
from axo.recipe.read import LoadedRecipe

if TYPE_CHECKING:
    from axo.recipe.data import DatasetEntry
    from axo.recipe.recipe import Recipe


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
    vocab_size = _vocab_size(recipe, facts)
    data = _estimate(recipe.data.datasets, vocab_size)
    evaluation = _estimate(recipe.data.test_datasets, vocab_size) if recipe.data.test_datasets else None
    steps = estimate_steps(data, section=recipe.data, batch=plan.batch, run=recipe.run)
    summary = summarise(recipe, plan, facts=facts, parameters=parameters, data=data, evaluation=evaluation, steps=steps)
    return Explanation(plan, explain(loaded, plan), summary)


def _estimate(entries: Sequence[DatasetEntry], vocab_size: int | None) -> DataEstimate:
    return estimate_data(entries, files_of=_files, vocab_size=vocab_size)


def _vocab_size(recipe: Recipe, facts: Facts) -> int | None:
    """Of the model's own tokenizer: rows of the embeddings, which are hardly more than its tokens. Reading it from
    tokenizer.json would mean to parse megabytes."""
    if facts.model_config is None or recipe.tokenizer.tokenizer_config is not None:
        return None
    size = text_part(facts.model_config).get("vocab_size")
    return size if isinstance(size, int) else None


def _files(entry: DatasetEntry) -> list[tuple[Path, str]]:
    """Local files with their kinds; none for a hub data set, nor where the path is wrong, which preparing will say."""
    try:
        return [(file, kind(file, entry)) for file in source_files(entry)] if is_local(entry) else []
    except DataError:
        return []
