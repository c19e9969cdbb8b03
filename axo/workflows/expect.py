"""Recipe -> whether the rows that it has expectations of are trained so; only these rows are rendered."""

from __future__ import annotations

from typing import Any

from axo.data.expect import Expecting, rows_meant
from axo.data.preparation import make_preparation
from axo.data.source import expanded
from axo.errors import ExpectationError, Finding
from axo.recipe.data import DatasetEntry, Expectation
from axo.recipe.expect_rules import expected_set
from axo.recipe.recipe import Recipe
from axo.workflows.counts import evaluation_data


def check_expectations(recipe: Recipe, *, tokenizer: Any) -> None:
    """ExpectationError with everything that is trained otherwise. DataError where a row cannot be read at all."""
    by_set: dict[str, dict[int, Expectation]] = {}
    entries: dict[str, DatasetEntry] = {}
    for number, one in enumerate(recipe.data.expect or ()):
        named = expected_set(one, recipe)
        assert named is not None, "the rules of the recipe say so"
        key, entries[key] = named
        by_set.setdefault(key, {})[number] = one
    findings: list[Finding] = []
    for key, expectations in by_set.items():
        findings += _of_set(key, entries[key], expectations, recipe, tokenizer)
    if findings:
        raise ExpectationError(sorted(findings, key=lambda finding: int(finding.key.split(".")[1])))


def _of_set(
    key: str, entry: DatasetEntry, expectations: dict[int, Expectation], recipe: Recipe, tokenizer: Any
) -> list[Finding]:
    data = evaluation_data(recipe) if key.startswith("test_datasets") else recipe.data
    preparations = [
        make_preparation(
            one,
            data=data,
            section=recipe.tokenizer,
            tokenizer=tokenizer,
            objective=recipe.preferences.objective,
            seed=recipe.run.seed,
        )
        for one in expanded(entry)
    ]
    expecting = Expecting(preparations[0], data=data, tokenizer=tokenizer)
    findings: list[Finding] = []
    missing = dict(expectations)
    for at, number, row in rows_meant(preparations, expectations):
        one = missing.pop(at)
        mismatch = expecting.mismatch(one, row)
        if mismatch is not None:
            place = f"row {number} ({row.file}:{row.line}) is not trained as expected"
            findings.append(Finding(f"expect.{at}", f"{place}\n  {mismatch.message}", mismatch.hint))
    return findings + [_nowhere(f"expect.{at}", one, entry) for at, one in missing.items()]


def _nowhere(key: str, one: Expectation, entry: DatasetEntry) -> Finding:
    if one.row is not None:
        return Finding(f"{key}.row", f"{entry.path} has no row {one.row}", "rows are counted from 1")
    said = ", ".join(f"{field}: {value!r}" for field, value in (one.where or {}).items())
    return Finding(f"{key}.where", f"no row of {entry.path} has {said}", "text and numbers are not equal: 1 is not '1'")
