"""`axo train`."""

from __future__ import annotations

from typing import Annotated

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json, show_plan
from axo.log import LOG


def train(
    ctx: typer.Context,
    recipe: RecipePath,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Run the same code at tiny size: no network, no data, minutes to seconds.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove a former run from output_dir and start over.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe.

    Reads the recipe, its data and base_model. Writes output_dir: checkpoints, the trained adapter or model with its
    tokenizer, metrics.jsonl, recipe.yaml, plan.json, manifest.json; and prepared data to dataset_prepared_path.
    The same command goes on with a run that was stopped (exit code 75) or died."""
    del debug
    loaded = load_recipe(recipe, ctx.args)
    if smoke:
        from axo.workflows.smoke import smoke as run_smoke

        with located(loaded):
            report = run_smoke(loaded, show_plan=show_plan, show=LOG.info)
        if json:
            print_json(report)
        return
    from axo.workflows.train import train as run_train

    with located(loaded):
        trained = run_train(loaded, fresh=fresh, show_plan=show_plan, show=LOG.info)
    if trained.kind == "finished":
        LOG.info("finished already: %s (--fresh starts over)", trained.output_dir)
    else:
        LOG.info("next: %s", _next(recipe, adapter=loaded.recipe.adapters.adapter))
    if json:
        print_json({"output_dir": trained.output_dir, "total_steps": trained.total_steps, "start": trained.kind})


def _next(recipe: str, *, adapter: str | None) -> str:
    ask = f'axo inference {recipe} "..."'
    return f"axo merge-lora {recipe}, or {ask}" if adapter else ask
