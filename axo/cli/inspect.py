"""`axo inspect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axo.cli.common import Debug, Json, RecipePath, for_data_only, load_recipe, located, print_json
from axo.errors import AxoError
from axo.log import LOG

if TYPE_CHECKING:
    from axo.data.look import Look
    from axo.report.inspection import Inspected, Inspection
    from axo.workflows.inspect_rows import Choice

ROWS = 3
PAGE_ROWS = 2000
"""Rows in a page, of all data sets together."""


def inspect(
    ctx: typer.Context,
    recipe: RecipePath,
    rows: Annotated[
        int | None,
        typer.Option("--rows", min=0, help="Rows of each data set to show; unset: 3, in a page 2,000 in all."),
    ] = None,
    row: Annotated[
        list[int] | None, typer.Option("--row", min=1, help="Show this row, counted from 1, in full; repeatable.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Only this data set: its path, key or number from 0."),
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Only rows whose text has TEXT.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page to open in a browser.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show which tokens of the data are trained, and why, in counts and row by row.

    Reads the recipe, its data and the tokenizer of base_model; never the model. Prepares the data as `axo preprocess`
    does, into dataset_prepared_path (last_run_prepared), where training finds it again."""
    del debug
    from axo.workflows.inspect_rows import Choice

    if html is not None:
        _check_target(html)
    loaded = load_recipe(recipe, ctx.args, for_data=True)
    number = rows if rows is not None else PAGE_ROWS if html else ROWS
    page = html is not None
    choice = Choice(number, page, page and rows is None, tuple(row or ()), search, dataset)
    with located(loaded), for_data_only(loaded.recipe):
        from axo.workflows.inspect import inspect

        found = inspect(loaded.recipe, choice, name=loaded.source.file, show=LOG.info)
    if html is not None:
        from axo.report.page import write_page

        write_page(html, found)
    if json:
        print_json({**answer(found), "page": html})
    else:
        _show(found, choice, page=html)
    if found.refusal is not None:
        with located(loaded):
            raise found.refusal


def _check_target(page: Path) -> None:
    """AxoError where no page can be written there: before all the work, not after it."""
    if page.is_dir():
        raise AxoError(f"--html {page}: this is a folder", "name a file in it, for example page.html")
    if not page.parent.is_dir():
        raise AxoError(f"--html {page}: there is no folder {page.parent}", "make it, or name a file elsewhere")


def _show(found: Inspection, choice: Choice, *, page: Path | None) -> None:
    from axo.cli.inspect_counts import print_counts
    from axo.cli.inspect_text import Shower

    if page is None:
        shower = Shower(whole=bool(choice.numbers))
        shower.legend()
        for one in found.sets:
            for seen in one.rows:
                shower.row(one.key, seen)
        print()
    print_counts(found)
    if page is not None:
        print(f"page: {page}")


def answer(found: Inspection) -> dict[str, Any]:
    """The same as data."""
    packing = found.packing
    return {
        "recipe": found.recipe,
        "tokenizer": found.tokenizer,
        "sequence_len": found.sequence_len,
        "prepared": found.prepared,
        "packing": None if packing is None else {**vars(packing), "efficiency": packing.efficiency},
        "refusal": None if found.refusal is None else str(found.refusal),
        "datasets": [_set(one) for one in found.sets],
    }


def _set(one: Inspected) -> dict[str, Any]:
    return {
        "key": one.key,
        "name": one.name,
        "type": one.type,
        "sequence_len": one.sequence_len,
        "report": vars(one.report),
        "lengths": vars(one.lengths),
        "duplicates": one.duplicates,
        "parity": None if one.parity is None else asdict(one.parity),
        "wrong_rows": one.wrong_rows,
        "choice": one.choice,
        "rows": [
            {
                "number": seen.number,
                "file": seen.file,
                "line": seen.line,
                "samples": [_sample(look) for look in seen.looks],
            }
            for seen in one.rows
        ],
    }


def _sample(look: Look) -> dict[str, Any]:
    why = [reason._asdict() for reason in look.why]
    parity = None if look.parity is None else asdict(look.parity)
    return {**vars(look), "trained": look.trained, "why": why, "parity": parity}
