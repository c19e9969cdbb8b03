"""Recipe -> what its data becomes: counts of every data set, and rows with each token and why it is trained or not.

The data is prepared as for training, or found prepared; the rows that are shown go through the same code again, so that
what is shown is what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from axo.data.look import Looker, Seen
from axo.data.lost import refuse_losses
from axo.data.parity import Parity, ParityCount, count_parity
from axo.errors import DataError
from axo.recipe.recipe import Recipe
from axo.report.inspection import Inspected, Inspection, histogram
from axo.workflows.counts import evaluation_data
from axo.workflows.inspect_rows import Choice, chosen_rows
from axo.workflows.inspect_sets import STREAMED_ROWS, BothPrepared, DataSet, counts_of, find_sets
from axo.workflows.packing import packing_of
from axo.workflows.prepare import prepare_only, tokenizer_of

PARITY_ROWS = 1000
"""Rows of a data set whose prompts are compared with what is trained."""


def inspect(recipe: Recipe, choice: Choice, *, name: str, show: Callable[[str], None] | None = None) -> Inspection:
    """Data that training would refuse is shown all the same, with the refusal.

    DataError: a file cannot be read at all, or `choice` names what is not there.
    """
    prepared, refusal = _prepared(recipe, show)
    tokenizer = tokenizer_of(recipe)
    sets = find_sets(recipe, tokenizer=tokenizer)
    chosen = [one for one in sets if one.is_meant(choice.dataset)]
    if not chosen:
        known = ", ".join(f"{one.key} ({one.preparation.name})" for one in sets)
        raise DataError(f"there is no data set {choice.dataset!r}", f"there are: {known}")
    return Inspection(
        recipe=name,
        tokenizer=recipe.tokenizer.tokenizer_config or recipe.model.base_model,
        sequence_len=recipe.data.sequence_len,
        sets=[_inspected(one, prepared, choice, tokenizer, num_sets=len(chosen)) for one in chosen],
        packing=None if prepared is None else packing_of(recipe, *prepared),
        prepared=[str(one.path) for one in prepared or () if one is not None],
        refusal=refusal,
    )


def _prepared(recipe: Recipe, show: Callable[[str], None] | None) -> tuple[BothPrepared | None, DataError | None]:
    """The prepared data, and why training would refuse it."""
    try:
        train, evaluation = prepare_only(recipe, show=show)
    except DataError as error:
        return None, error
    try:
        if train is not None:
            refuse_losses(train.reports, recipe.data, store=train.path)
        if evaluation is not None:
            refuse_losses(evaluation.reports, evaluation_data(recipe), store=evaluation.path)
    except DataError as error:
        return (train, evaluation), error
    return (train, evaluation), None


def _inspected(
    one: DataSet, prepared: BothPrepared | None, choice: Choice, tokenizer: Any, *, num_sets: int
) -> Inspected:
    counts = counts_of(one, prepared, tokenizer=tokenizer)
    looker = Looker(one.preparation, data=one.data, tokenizer=tokenizer, dropped_rows=one.dropped_rows)
    refused = prepared is None
    rows, words = chosen_rows(
        looker,
        one,
        choice.shared_by(num_sets),
        total=counts.report.rows + counts.wrong_rows,
        tolerant=refused,
    )
    return Inspected(
        key=one.key,
        name=one.preparation.name,
        type=one.preparation.type,
        report=counts.report,
        lengths=histogram(counts.lengths, sequence_len=one.data.sequence_len),
        sequence_len=one.data.sequence_len,
        duplicates=counts.duplicates,
        wrong_rows=counts.wrong_rows,
        parity=_parities(looker, one, rows, tolerant=refused),
        rows=rows,
        choice=words,
        counted=f"at most the first {STREAMED_ROWS:,} rows: it is read while training goes on" if one.streamed else "",
    )


def _parities(looker: Looker, one: DataSet, seen: Sequence[Seen], *, tolerant: bool) -> ParityCount | None:
    """Of the first rows, those that are `seen` already included."""
    if one.preparation.template is None:
        return None
    known = {row.number: [look.parity for look in row.looks if look.parity is not None] for row in seen}
    found: list[tuple[int, Parity]] = []
    for number, row in enumerate(islice(one.rows(), PARITY_ROWS), 1):
        try:
            own = known[number] if number in known else looker.parities(row)
            found += [(number, parity) for parity in own]
        except DataError:
            if not tolerant:
                raise
    return count_parity(found) if found else None
