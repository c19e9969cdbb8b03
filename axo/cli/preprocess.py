"""`axo preprocess`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json
from axo.log import LOG

if TYPE_CHECKING:
    from axo.data.prepare import Prepared


def preprocess(ctx: typer.Context, recipe: RecipePath, json: Json = False, debug: Debug = False) -> None:
    """Prepare the data of a recipe: read, render, tokenise, mask, store.

    Reads the recipe, its data and the tokenizer of base_model. Writes dataset_prepared_path (last_run_prepared),
    one folder for each content, which `datasets.load_from_disk` opens too."""
    del debug
    from axo.workflows.prepare import prepare_run

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        prepared = prepare_run(loaded.recipe, show=LOG.info)
    if json:
        evaluation = {"prepared_eval": _answer(prepared.evaluation)} if prepared.evaluation else {}
        print_json({**evaluation, "prepared": _answer(prepared.train)})
        return
    print(_text("train", prepared.train))
    if prepared.evaluation:
        print(_text("eval", prepared.evaluation))


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
    lines = [f"{name}: {prepared.path}{' (prepared before)' if prepared.from_cache else ''}"]
    for report in prepared.reports:
        dropped = report.samples_dropped_long + report.samples_dropped_short + report.samples_dropped_untrained
        lines.append(
            f"  {report.path}: {report.rows:,} rows, {report.samples:,} samples, {report.tokens_kept:,} tokens, "
            f"{report.trained_tokens:,} of them trained; lost: {dropped:,} samples ({report.tokens_dropped:,} tokens), "
            f"{report.tokens_truncated:,} tokens cut"
        )
    return "\n".join(lines)
