"""`axo preprocess`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from axo.cli.common import Json, RecipePath, counted, for_data_only, load_recipe, located, print_json
from axo.log import LOG

if TYPE_CHECKING:
    from axo.data.prepare import Prepared
    from axo.recipe.read import LoadedRecipe


def preprocess(
    ctx: typer.Context,
    recipe: RecipePath,
    json: Json = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show an example with every token; and a traceback with an error.")
    ] = False,
    debug_text_only: Annotated[
        bool, typer.Option("--debug-text-only", help="Show an example as text, without labels and ids.")
    ] = False,
    debug_num_examples: Annotated[
        int | None,
        typer.Option("--debug-num-examples", min=0, help="Show so many examples; unset: one, if any is asked."),
    ] = None,
) -> None:
    """Prepare the data of a recipe: read, render, tokenise, mask, store.

    Reads the recipe, its data and the tokenizer of base_model. Writes dataset_prepared_path (last_run_prepared),
    one folder for each content, which `datasets.load_from_disk` opens too. Streamed data is not prepared: of such a
    recipe only test_datasets."""
    loaded = load_recipe(recipe, ctx.args, for_data=True)
    with located(loaded), for_data_only(loaded.recipe):
        train, evaluation = _prepare(loaded)
    asked = int(debug or debug_text_only) if debug_num_examples is None else debug_num_examples
    if asked and train is not None:
        _show_examples(loaded, train, count=asked, text_only=debug_text_only, stderr=json)
    if json:
        more = {"prepared_eval": _answer(evaluation)} if evaluation else {}
        print_json({**more, "prepared": None if train is None else _answer(train)})
        return
    if train is None:
        paths = ", ".join(entry.path for entry in loaded.recipe.data.streamed)
        print(f"train: not prepared, for it is read while training goes on: {paths}")
    else:
        print(_text("train", train))
    if evaluation:
        print(_text("eval", evaluation))


def _show_examples(loaded: LoadedRecipe, prepared: Prepared, *, count: int, text_only: bool, stderr: bool) -> None:
    from axo.cli.examples import print_examples
    from axo.workflows.examples import draw_examples
    from axo.workflows.prepare import tokenizer_of

    tokenizer = tokenizer_of(loaded.recipe)
    examples = draw_examples(prepared, count=count, tokenizer=tokenizer, seed=loaded.recipe.run.seed)
    print_examples(examples, text_only=text_only, stderr=stderr)


def _prepare(loaded: LoadedRecipe) -> tuple[Prepared | None, Prepared | None]:
    """Training data and evaluation data; without a Plan where axo cannot train the recipe yet."""
    from axo.workflows.prepare import prepare_only, prepare_run

    if loaded.not_yet:
        keys = ", ".join(finding.key for finding in loaded.not_yet)
        LOG.info("note: not supported yet by train: %s; the data is prepared all the same", keys)
        return prepare_only(loaded.recipe, show=LOG.info)
    prepared = prepare_run(loaded.recipe, show=LOG.info)
    return prepared.train, prepared.evaluation


def _answer(prepared: Prepared) -> dict[str, Any]:
    return {
        "path": prepared.path,
        "samples": sum(report.samples for report in prepared.reports),
        "tokens": sum(report.tokens_kept for report in prepared.reports),
        "trained_tokens": sum(report.trained_tokens for report in prepared.reports),
        "seconds": prepared.seconds,
        "from_cache": prepared.from_cache,
        "datasets": [vars(report) for report in prepared.reports],
    }


def _text(name: str, prepared: Prepared) -> str:
    return "\n".join(
        [
            f"{name}: {prepared.path}{' (prepared before)' if prepared.from_cache else ''}",
            *map(counted, prepared.reports),
        ]
    )
