"""Counts of prepared data: what an epoch has of each data set, what was lost of it, and how many packs that makes."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np

from axo.data.lost import reasons
from axo.data.prepare import Prepared
from axo.data.report import SetReport
from axo.data.source import expanded
from axo.errors import DataError
from axo.plan.facts import DataFacts, SetFacts
from axo.plan.plan import Plan
from axo.recipe.data import DataSection
from axo.recipe.recipe import Recipe
from axo.train.orders import PreparedData, open_prepared
from axo.train.scored import open_evaluation


def evaluation_data(recipe: Recipe) -> DataSection:
    """The section as it holds for test_datasets: eval_sequence_len is their sequence_len."""
    length = recipe.data.eval_sequence_len or recipe.data.sequence_len
    return recipe.data.model_copy(update={"sequence_len": length})


def count_data(recipe: Recipe, plan: Plan, train: Prepared, evaluation: Prepared | None) -> DataFacts:
    """Open what was prepared and count it, as training will. DataError where no sample is left to train."""
    data = open_prepared(
        train.path,
        None if evaluation is None else evaluation.path,
        data=recipe.data,
        section=recipe.batch,
        batch=plan.batch,
        seed=recipe.run.seed,
    )
    order = data.train_order
    if not order.packs:
        raise DataError(
            f"no sample is left to train: val_set_size {recipe.data.val_set_size:g} holds all of them out",
            "lower val_set_size",
        )
    epoch = data.train_mixture.samples(0)
    epochs = 0 if data.train_mixture.is_fixed or recipe.run.max_steps else ceil(recipe.run.num_epochs)
    return DataFacts(
        train_samples=len(epoch),
        train_tokens=int(data.train_store.lengths[epoch].sum()),
        trained_tokens=int(data.train_store.trained[epoch].sum()),
        train_packs=len(order.packs),
        eval_samples=0 if data.eval_order is None else sum(len(pack) for pack in data.eval_order.packs),
        packs_by_epoch=tuple(len(order.packs_in(number)) for number in range(epochs)),
        sets=(*_train_sets(recipe, data, train), *_eval_sets(recipe, evaluation)),
    )


def count_evaluation(recipe: Recipe, plan: Plan, evaluation: Prepared | None) -> DataFacts:
    """Counts of a run whose training data is streamed: of test_datasets alone."""
    scored = open_evaluation(
        None if evaluation is None else evaluation.path,
        data=recipe.data,
        section=recipe.batch,
        batch=plan.batch,
        seed=recipe.run.seed,
    )
    return DataFacts(
        train_samples=0,
        train_tokens=0,
        trained_tokens=0,
        train_packs=0,
        eval_samples=0 if scored is None else sum(len(pack) for pack in scored.eval_order.packs),
        sets=tuple(_eval_sets(recipe, evaluation)),
    )


def _train_sets(recipe: Recipe, data: PreparedData, train: Prepared) -> Iterator[SetFacts]:
    entries = [(at, entry) for at, entry in enumerate(recipe.data.datasets) for _ in expanded(entry)]
    epoch = data.train_mixture.samples(0)
    tokens = np.bincount(
        data.train_store.sets[epoch], weights=data.train_store.lengths[epoch], minlength=len(train.reports)
    )
    for number, ((at, entry), report) in enumerate(zip(entries, train.reports, strict=True)):
        asked = {"weight": entry.weight, "repeat": entry.repeat}
        yield SetFacts(
            key=f"datasets.{at}",
            asked=", ".join(f"{key}: {value:g}" for key, value in asked.items() if value is not None),
            samples=len(data.train_mixture.members[number]),
            epoch_samples=data.train_mixture.counts[number],
            epoch_tokens=int(tokens[number]),
            **_losses(report, recipe.data),
        )


def _eval_sets(recipe: Recipe, evaluation: Prepared | None) -> Iterator[SetFacts]:
    if evaluation is not None:
        entries = [at for at, entry in enumerate(recipe.data.test_datasets or []) for _ in expanded(entry)]
        for at, report in zip(entries, evaluation.reports, strict=True):
            yield SetFacts(key=f"test_datasets.{at}", **_losses(report, evaluation_data(recipe)))


def _losses(report: SetReport, data: DataSection) -> dict[str, Any]:
    return {
        "path": report.path,
        "tokens_read": report.tokens_read - report.tokens_dropped_duplicate,
        "tokens_lost": report.tokens_lost,
        "lost": tuple(reasons(report, data)),
        "trained_turns": report.trained_turns,
        "unended_turns": report.unended_turns,
        "tools_unwritten": report.tools_unwritten,
        "reasoning_removed": report.reasoning_removed,
    }
