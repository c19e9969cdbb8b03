"""Checks of `expect`: each expectation names one row of a data set that is there, and what is trained of it."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.recipe.data_lacks import is_compared
from axo.recipe.dataset import DatasetEntry
from axo.recipe.expectation import Expectation
from axo.recipe.recipe import Recipe


def expectations(recipe: Recipe) -> list[Finding]:
    """Everything that is wrong with each one."""
    return [
        finding
        for number, one in enumerate(recipe.data.expect or ())
        for finding in _of_one(f"expect.{number}", one, recipe)
    ]


def expected_set(one: Expectation, recipe: Recipe) -> tuple[str, DatasetEntry] | None:
    """The data set that an expectation is about, with its key; None where there is no such."""
    known = _sets(recipe)
    wanted = 0 if one.dataset is None else one.dataset
    if isinstance(wanted, int) or wanted.isdecimal():
        wanted = f"datasets.{int(wanted)}"
    return next(((key, entry) for key, entry in known if wanted in (key, entry.path)), None)


def _sets(recipe: Recipe) -> list[tuple[str, DatasetEntry]]:
    named = (("datasets", recipe.data.datasets), ("test_datasets", recipe.data.test_datasets or ()))
    return [(f"{name}.{number}", entry) for name, entries in named for number, entry in enumerate(entries)]


def _of_one(key: str, one: Expectation, recipe: Recipe) -> Iterator[Finding]:
    if one.row is None and one.where is None:
        yield Finding(key, "it names no row", "add `row: 1`, or `where: {column: value}`")
    if one.row is not None and one.where is not None:
        yield Finding(f"{key}.where", "row names the row already", "keep one of the two")
    if one.trained is None and not one.untrained:
        yield Finding(key, "it does not say what is trained", "add `trained:` with the text, or `untrained: true`")
    if one.trained is not None and one.untrained:
        yield Finding(f"{key}.untrained", "trained says that something is trained", "keep one of the two")
    if any(not text for text in one.stretches):
        yield Finding(f"{key}.trained", "found an empty text", "where nothing is trained, set untrained: true")
    if one.weight is not None and one.trained is None:
        yield Finding(f"{key}.weight", "there is no text that it is the weight of", "add trained, or remove it")
    elif one.weights is not None and len(one.weights) != len(one.stretches):
        message = f"found {len(one.weights)} weights for {len(one.stretches)} texts"
        yield Finding(f"{key}.weight", message, "give one number, or one for each text of trained")
    if one.side is not None and not is_compared(recipe):
        yield Finding(f"{key}.side", "no answers are compared (there is no rl or reward model)", "remove it")
    if expected_set(one, recipe) is None:
        known = ", ".join(f"{name} ({entry.path})" for name, entry in _sets(recipe))
        yield Finding(f"{key}.dataset", f"found {one.dataset!r}, which is no data set", f"there are: {known}")
