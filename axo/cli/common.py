"""What the verbs share: their common parameters, reading a recipe, showing a Plan."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axo.cli.complete import recipe_files
from axo.compat.without_torch import without_torch
from axo.errors import ExpectationError, RecipeError
from axo.log import LOG

if TYPE_CHECKING:
    from axo.data.report import SetReport
    from axo.plan.plan import Decision, Plan
    from axo.recipe.read import LoadedRecipe
    from axo.recipe.recipe import Recipe

RecipePath = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="YAML recipe; any of its keys may follow as --key value.", autocompletion=recipe_files
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option("--nnodes", metavar="N", help="Nodes that train together; run the same command on each. [NNODES]"),
]
NodeRank = Annotated[
    int | None,
    typer.Option("--node-rank", metavar="I", help="Number of this node, from 0; node 0 writes output_dir. [NODE_RANK]"),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--rdzv-endpoint",
        metavar="HOST:PORT",
        help="Where the nodes meet: a free port of node 0, the same on all. [RDZV_ENDPOINT, or MASTER_ADDR and "
        "MASTER_PORT; SLURM's own variables inside a job]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]


def load_recipe(recipe: str, overrides: Sequence[str], *, for_data: bool = False) -> LoadedRecipe:
    """Read a recipe (a file, a folder, an https address) with `--key value` and `--set key=value` from the command
    line; notes go to stderr. `for_data`: it may ask for training that axo does not have yet."""
    from axo.recipe.read import read_recipe

    loaded = read_recipe(chosen(recipe), overrides=overrides, for_data=for_data)
    for note in loaded.notes:
        LOG.info("note: %s", note)
    return loaded


def chosen(recipe: str) -> str:
    """The recipe that somebody at a terminal picks of a folder with several; all else as it is."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return recipe
    from axo.recipe.find import recipes_to_choose

    recipes = recipes_to_choose(recipe)
    for number, path in enumerate(recipes, 1):
        print(f"{number:3}  {path.name}", file=sys.stderr)
    while recipes:
        print(f"number (1 to {len(recipes)}): ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:  # end of input: the reader lists them
            break
        if answer.strip().isdecimal() and 1 <= int(answer) <= len(recipes):
            return str(recipes[int(answer) - 1])
    return recipe


@contextmanager
def located(loaded: LoadedRecipe) -> Generator[None]:
    """Faults that only the Plan, the data or the model finds get the line of their key, too."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(loaded.source.locate(error.findings)) from error
    except ExpectationError as error:
        raise ExpectationError(loaded.source.locate(error.findings)) from error


def print_json(answer: dict[str, Any]) -> None:
    """The one line that a program reads."""
    print(json.dumps(answer, default=str), flush=True)


def for_data_only(recipe: Recipe) -> AbstractContextManager[None]:
    """Around the work of verbs that load a tokenizer and never a model: without torch, which takes long to import,
    unless code of the recipe's own is run, which may want it."""
    entries = (*recipe.data.datasets, *(recipe.data.test_datasets or ()), *(recipe.data.pretraining_dataset or ()))
    if recipe.model.trust_remote_code or any(entry.allow_custom_code for entry in entries):
        return nullcontext()
    return without_torch()


def counted(report: SetReport) -> str:
    """What became of a data set, in a line or two."""
    from axo.plan.words import amount  # brings pydantic, which --help does without

    dropped = report.samples_dropped_long + report.samples_dropped_short + report.samples_dropped_untrained
    line = (
        f"  {report.path}: {amount(report.rows, 'row')}, {amount(report.samples, 'sample')}, "
        f"{amount(report.tokens_kept, 'token')}, {report.trained_tokens:,} of them trained; lost: "
        f"{amount(dropped, 'sample')} ({amount(report.tokens_lost - report.tokens_truncated, 'token')}), "
        f"{amount(report.tokens_truncated, 'token')} cut"
    )
    if report.samples_dropped_duplicate:
        line += f"\n    {amount(report.samples_dropped_duplicate, 'sample')} left out: equal rows stand before theirs"
    if report.equal_answers:
        line += f"\n    {report.equal_answers:,} of the rows reject the very answer that they choose"
    if report.unended_turns:
        turns = f"{report.unended_turns:,} of {report.trained_turns:,} trained turns"
        line += f"\n    warning: behind {turns} the chat template writes no end: the model does not learn to stop there"
    if report.reasoning_removed:
        line += (
            f"\n    {report.reasoning_removed:,} messages lose their chain of thought, which the template leaves out"
        )
    if report.tools_unwritten:
        line += f"\n    warning: {report.tools_unwritten:,} rows offer tools, which the chat template does not write"
    return line


def show_plan(plan: Plan) -> None:
    """Asked, effective and why of every decision, on stderr: a table on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        _show_table(plan.decisions)
        return
    LOG.info("plan:")
    for decision in plan.decisions:
        mark = "fallback: " if decision.fallback else "warning: " if decision.warning else ""
        LOG.info("  %s: %s%s -> %s (%s)", decision.key, mark, decision.asked, decision.effective, decision.why)


def _show_table(decisions: Sequence[Decision]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Plan", title_justify="left")
    for column in ("key", "asked", "effective", "why"):
        table.add_column(column, overflow="fold")
    for decision in decisions:
        style = "yellow" if decision.fallback or decision.warning else None
        table.add_row(decision.key, decision.asked, decision.effective, decision.why, style=style)
    Console(stderr=True).print(table)
