"""`axo validate`."""

from __future__ import annotations

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json, show_plan


def validate(ctx: typer.Context, recipe: RecipePath, json: Json = False, debug: Debug = False) -> None:
    """Check a recipe without loading a model or data.

    Reads the recipe and, where base_model is a folder, its config.json. Writes nothing."""
    del debug
    from axo.plan.resolve import resolve
    from axo.workflows.facts import find_facts

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        plan = resolve(loaded.recipe, find_facts(loaded.recipe, recipe_folder=loaded.path.parent))
    if json:
        print_json({"valid": True, "findings": [], "plan": plan.model_dump(mode="json")})
        return
    show_plan(plan)
    print(f"{loaded.source.file}: valid")
