"""`axo validate`."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json, show_plan
from axo.log import LOG

if TYPE_CHECKING:
    from axo.recipe.recipe import Recipe


def validate(ctx: typer.Context, recipe: RecipePath, json: Json = False, debug: Debug = False) -> None:
    """Check a recipe without loading a model or data.

    Reads the recipe and, where base_model is a folder, its config.json. Writes nothing."""
    del debug
    from axo.plan.resolve import resolve
    from axo.workflows.facts import find_facts

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        plan = resolve(loaded.recipe, find_facts(loaded.recipe, recipe_folder=loaded.path.parent))
    missing = _missing_data(loaded.recipe)
    for note in missing:
        LOG.info("note: %s", note)
    if json:
        notes = [*loaded.notes, *missing]
        print_json({"valid": True, "findings": [], "notes": notes, "plan": plan.model_dump(mode="json")})
        return
    show_plan(plan)
    print(f"{loaded.source.file}: valid")


def _missing_data(recipe: Recipe) -> list[str]:
    """Data files that are not there: no fault of the recipe, which may be checked on another machine."""
    from axo.recipe.data_lacks import entries
    from axo.recipe.data_rules import DATA_FILE

    return [
        f"{key}.path: {entry.path} is not on this machine"
        for key, entry in entries(recipe)
        if DATA_FILE.search(entry.path) and not Path(expanduser(entry.path)).exists()
    ]
