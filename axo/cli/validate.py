"""`axo validate`."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axo.cli.common import Debug, Json, RecipePath, counted, for_data_only, load_recipe, located, print_json, show_plan
from axo.errors import DataError, ExpectationError
from axo.log import LOG

if TYPE_CHECKING:
    from axo.recipe.read import LoadedRecipe
    from axo.recipe.recipe import Recipe
    from axo.workflows.check_data import Checked


def validate(
    ctx: typer.Context,
    recipe: RecipePath,
    data: Annotated[
        bool, typer.Option("--data", help="Also read every row of the data as training would; list all its faults.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a recipe without loading a model or, but for --data, its data.

    Reads the recipe and, where base_model is a folder, its config.json; with --data the tokenizer and the data, too.
    Writes nothing."""
    del debug
    from axo.plan.resolve import resolve
    from axo.workflows.facts import find_facts

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        plan = resolve(loaded.recipe, find_facts(loaded.recipe, recipe_folder=loaded.path.parent))
    missing = [] if data else _missing_data(loaded.recipe)
    for note in missing:
        LOG.info("note: %s", note)
    checked = _check_data(loaded) if data else None
    if json:
        notes = [*loaded.notes, *missing]
        answer = {"valid": True, "findings": [], "notes": notes, "plan": plan.model_dump(mode="json")}
        print_json(answer if checked is None else {**answer, "data": _counts(checked)})
        return
    show_plan(plan)
    for name, reports in () if checked is None else (("train", checked.train), ("eval", checked.evaluation)):
        if reports:
            print("\n".join([f"{name}:", *map(counted, reports)]))
    print(f"{loaded.source.file}: valid")


def _check_data(loaded: LoadedRecipe) -> Checked:
    """DataError with all that is wrong, as far as it is listed; before it, what could be read is said."""
    with located(loaded), for_data_only(loaded.recipe):
        from axo.workflows.check_data import check_data

        checked = check_data(loaded.recipe, show=LOG.info)
    faults = checked.faults
    errors = faults.in_order()
    if checked.unexpected:
        errors.append(ExpectationError(loaded.source.locate(checked.unexpected)))
    if not errors:
        return checked
    for report in (*checked.train, *checked.evaluation):
        LOG.info("read%s", counted(report).removeprefix(" "))
    if faults.count and loaded.recipe.data.expect:
        LOG.info("not checked: expect, before the data can be read")
    for place in faults.unread:
        LOG.info("not read: what stands behind %s", place)
    raise DataError.of(errors, further=faults.further)


def _counts(checked: Checked) -> dict[str, Any]:
    return {name: [vars(one) for one in getattr(checked, name)] for name in ("train", "evaluation")}


def _missing_data(recipe: Recipe) -> list[str]:
    """Data files that are not there: no fault of the recipe, which may be checked on another machine."""
    from axo.recipe.data_lacks import entries
    from axo.recipe.data_rules import names_file

    return [
        f"{key}.path: {entry.path} is not on this machine"
        for key, entry in entries(recipe)
        if names_file(entry.path) and not Path(expanduser(entry.path)).exists()
    ]
