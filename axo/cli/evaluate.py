"""`axo evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json
from axo.log import LOG


def evaluate(
    ctx: typer.Context,
    recipe: RecipePath,
    base: Annotated[bool, typer.Option("--base", help="Score base_model instead of what was trained.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score the evaluation data: loss, perplexity and token accuracy over all trained tokens.

    Reads the recipe, its evaluation data (val_set_size or test_datasets) and the trained adapter or model in output_dir
    (lora_model_dir where set). Writes only prepared data."""
    del debug
    from axo.workflows.evaluate import evaluate as run_evaluate

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        result = run_evaluate(loaded.recipe, base=base, show=LOG.info)
    answer = {
        "loss": result.loss,
        "perplexity": result.perplexity,
        "token_accuracy": result.token_accuracy,
        "trained_tokens": result.trained_tokens,
        **{f"loss_{name}": loss for name, loss in result.set_losses.items()},
    }
    if json:
        print_json(answer)
        return
    for name, value in answer.items():
        print(f"{name}: {value:,.6g}" if isinstance(value, float) else f"{name}: {value:,}")
