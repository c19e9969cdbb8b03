"""`axo validate --data`: every row of a recipe's data is read as for training, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from axo.data.check import Faults, check_set
from axo.data.dedup import RowFilter
from axo.data.lost import refuse_losses
from axo.data.preparation import make_preparation
from axo.data.report import SetReport
from axo.data.source import expanded
from axo.errors import DataError, ExpectationError, Finding
from axo.log import LOG
from axo.recipe.data import DataSection, DatasetEntry
from axo.recipe.recipe import Recipe
from axo.workflows.counts import evaluation_data
from axo.workflows.expect import check_expectations
from axo.workflows.prepare import teller, tokenizer_of


@dataclass(frozen=True)
class Checked:
    """What was read and what is wrong with it."""

    train: tuple[SetReport, ...]
    evaluation: tuple[SetReport, ...]
    faults: Faults
    unexpected: tuple[Finding, ...]
    """Rows that are not trained as the recipe expects."""


def check_data(recipe: Recipe, *, show: Callable[[str], None] | None = None) -> Checked:
    """Every fault of the data is in the answer; a RecipeError is raised."""
    tokenizer = tokenizer_of(recipe)
    faults = Faults()
    # One filter for both: an evaluation row that is a training row is left out, too.
    rows = RowFilter() if recipe.data.dataset_exact_deduplication else None
    if recipe.data.streamed:
        LOG.info("not read: %s, which training reads as it goes", ", ".join(one.path for one in recipe.data.streamed))
    datasets = () if recipe.data.streamed else recipe.data.datasets
    train = _check(datasets, recipe.data, recipe, tokenizer, faults, rows, show)
    evaluation = _check(recipe.data.test_datasets or (), evaluation_data(recipe), recipe, tokenizer, faults, rows, show)
    return Checked(train, evaluation, faults, _unexpected(recipe, tokenizer, faults))


def _check(
    entries: Sequence[DatasetEntry],
    data: DataSection,
    recipe: Recipe,
    tokenizer: Any,
    faults: Faults,
    rows: RowFilter | None,
    show: Callable[[str], None] | None,
) -> tuple[SetReport, ...]:
    reports: list[SetReport] = []
    for entry in chain.from_iterable(map(expanded, entries)):
        try:
            preparation = make_preparation(
                entry,
                data=data,
                section=recipe.tokenizer,
                tokenizer=tokenizer,
                objective=recipe.preferences.objective,
                seed=recipe.run.seed,
            )
        except DataError as error:
            faults.add(error)
            continue
        progress = None if show is None else teller(show, "read")
        for doubt in preparation.doubts:
            LOG.warning("%s", doubt)
        before = faults.count
        report = check_set(preparation, data=data, tokenizer=tokenizer, faults=faults, progress=progress, rows=rows)
        reports.append(report)
        if faults.count == before:
            _check_losses(report, data, faults)
    return tuple(reports)


def _check_losses(report: SetReport, data: DataSection, faults: Faults) -> None:
    try:
        refuse_losses([report], data)
    except DataError as error:
        faults.add(error)


def _unexpected(recipe: Recipe, tokenizer: Any, faults: Faults) -> tuple[Finding, ...]:
    """Nothing where rows cannot be read: their numbers are not certain then."""
    if faults.count or not recipe.data.expect:
        return ()
    try:
        check_expectations(recipe, tokenizer=tokenizer)
    except ExpectationError as error:
        return error.findings
    return ()
