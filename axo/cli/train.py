"""`axo train`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from axo.cli.common import (
    Debug,
    Endpoint,
    Json,
    NodeRank,
    Nodes,
    RecipePath,
    chosen,
    load_recipe,
    located,
    print_json,
    show_plan,
)
from axo.errors import LaunchError
from axo.log import LOG
from axo.plan.cluster import Asked

if TYPE_CHECKING:
    from axo.recipe.read import LoadedRecipe
    from axo.workflows.launch import Way
    from axo.workflows.sweep import Ending, SweepRun
    from axo.workflows.train import Trained

LAUNCHER_ARGUMENTS = "axo.launcher_arguments"
"""Where the command line keeps the words behind `--`, in `ctx.meta`."""
LISTED = 50
"""Runs of a sweep that are named before it starts."""


def train(
    ctx: typer.Context,
    recipe: RecipePath,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", metavar="FILE", help="YAML file of lists of values: train every combination of them."),
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Run the same code at tiny size: no network, no data, minutes to seconds.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove a former run from output_dir and start over.")] = False,
    nnodes: Nodes = None,
    node_rank: NodeRank = None,
    rdzv_endpoint: Endpoint = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            "--launcher",
            metavar="NAME",
            help="Start workers through torchrun, accelerate or deepspeed, with its arguments behind --; or python: "
            "one worker in this process. Unset: axo starts one for each GPU itself.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe.

    Reads the recipe, its data and base_model. Writes output_dir: checkpoints, the trained adapter or model with its
    tokenizer, metrics.jsonl, recipe.yaml, plan.json, manifest.json; and prepared data to dataset_prepared_path.
    The same command goes on with a run that was stopped (exit code 75) or died. With --sweep each combination is a run
    of its own in output_dir/sweep0001, sweep0002, ...; the exit code is that of the first one that failed.

    On several nodes the same command runs on each, with --nnodes, --node-rank and --rdzv-endpoint or their environment
    variables; inside a SLURM job, under `srun --ntasks-per-node=1`, with none of them (see `axo launch slurm`).
    Arguments of a launcher stand at the end: axo train RECIPE --launcher torchrun -- --nproc_per_node=2"""
    del debug
    arguments: Sequence[str] = ctx.meta.get(LAUNCHER_ARGUMENTS, ())
    asked = Asked(nnodes, node_rank, rdzv_endpoint)
    if smoke and (launcher is not None or arguments or asked != Asked()):
        raise LaunchError(
            "a smoke run is for this node, with workers that axo starts itself", "leave --launcher and the nodes out"
        )
    if sweep is not None and not smoke:
        _check_sweep(asked, launcher, arguments)
    if sweep is not None:
        _sweep(chosen(recipe), sweep, ctx.args, smoke=smoke, fresh=fresh, json=json)
        return
    if smoke:
        loaded = load_recipe(recipe, ctx.args)
        from axo.workflows.smoke import smoke as run_smoke

        with located(loaded):
            report = run_smoke(loaded, show_plan=show_plan, show=LOG.info)
        if json:
            print_json(report)
        return
    from axo.workflows.launch import find_way, followers_are_quiet

    way = find_way(asked, launcher=launcher, arguments=arguments)
    with followers_are_quiet(way):
        loaded = load_recipe(recipe, ctx.args)
        trained = _train(loaded, way, fresh=fresh)
    if way.leads:
        _tell(trained, recipe, loaded, json=json)


def _train(loaded: LoadedRecipe, way: Way, *, fresh: bool) -> Trained:
    from axo.train.stop import stoppable

    with stoppable() as check_signals:
        from axo.workflows.train import train as run_train  # seconds, in which somebody may press Ctrl-C

        check_signals()
    with located(loaded):
        return run_train(loaded, fresh=fresh, show_plan=show_plan, show=LOG.info, way=way)


def _tell(trained: Trained, recipe: str, loaded: LoadedRecipe, *, json: bool) -> None:
    if trained.kind == "finished":
        LOG.info("finished already: %s (--fresh starts over)", trained.output_dir)
    else:
        kept = "://" in recipe  # what the run was made from lies in its folder
        LOG.info("next: %s", _next(f"{trained.output_dir}/recipe.yaml" if kept else recipe, loaded.recipe.adapters))
    if json:
        print_json({"output_dir": trained.output_dir, "total_steps": trained.total_steps, "start": trained.kind})


def _next(recipe: str, section: Any) -> str:
    ask = f'axo inference {recipe} "..."'
    return f"axo merge-lora {recipe}, or {ask}" if section.adapter else ask


def _check_sweep(asked: Asked, launcher: str | None, arguments: Sequence[str]) -> None:
    """A sweep runs on one node, one training after another, each with workers that axo starts."""
    from axo.workflows.launch import find_way

    if launcher is not None or not find_way(asked, launcher=launcher, arguments=arguments).only_here:
        raise LaunchError(
            "a sweep trains on one node, with workers that axo starts itself",
            "leave --launcher and the nodes out; or train its combinations one by one",
        )


def _sweep(recipe: str, sweep: str, overrides: Sequence[str], *, smoke: bool, fresh: bool, json: bool) -> None:
    from axo.workflows.sweep import read_runs, smoke_runs, train_runs

    runs = read_runs(recipe, sweep, overrides=overrides)
    _announce(runs)
    if smoke:
        endings = smoke_runs(runs, show_plan=show_plan, show=LOG.info)
    else:
        endings = train_runs(runs, fresh=fresh, show_plan=show_plan, show=LOG.info)
    _show_endings(endings)
    if json:
        print_json({"output_dir": runs[0].folder.parent, "runs": [_answer(ending) for ending in endings]})
    failed = next((ending for ending in endings if ending.status == "failed"), None)
    if failed is not None:
        raise typer.Exit(failed.exit_code)
    if not smoke:
        best = min(endings, key=_rank).run
        LOG.info("next: %s", _next(f"{best.folder}/recipe.yaml", best.loaded.recipe.adapters))


def _announce(runs: Sequence[SweepRun]) -> None:
    for note in dict.fromkeys(note for run in runs for note in run.loaded.notes):
        LOG.info("note: %s", note)
    LOG.info("sweep: %d runs, one after another, into %s:", len(runs), runs[0].folder.parent)
    for run in runs[:LISTED]:
        LOG.info("  %s: %s", run.name, run.combination)
    if len(runs) > LISTED:
        LOG.info("  and %d more", len(runs) - LISTED)


def _rank(ending: Ending) -> tuple[bool, float, float]:
    """Lowest evaluation loss first, then lowest loss; what failed last."""
    losses = (math.inf if loss is None or math.isnan(loss) else loss for loss in (ending.eval_loss, ending.loss))
    evaluated, trained = losses
    return (ending.status == "failed", evaluated, trained)


def _show_endings(endings: Sequence[Ending]) -> None:
    """The best first, on stderr: a table on a terminal, plain lines elsewhere."""
    columns = ("run", "settings", "eval loss", "loss", "step", "status")
    rows = [_row(ending) for ending in sorted(endings, key=_rank)]
    if not sys.stderr.isatty():
        LOG.info("sweep, best first:")
        for row in rows:
            figures = [f"{name} {text}" for name, text in zip(columns[2:-1], row[2:-1], strict=True) if text]
            LOG.info("  %s: %s", row[0], "; ".join((row[1], *figures, row[-1])))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Sweep, best first", title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for ending, row in zip(sorted(endings, key=_rank), rows, strict=True):
        table.add_row(*row, style="red" if ending.status == "failed" else None)
    Console(stderr=True).print(table)


def _row(ending: Ending) -> tuple[str, ...]:
    figures = ("" if loss is None else f"{loss:.4f}" for loss in (ending.eval_loss, ending.loss))
    status = "finished" if ending.error is None else f"failed: {ending.error.splitlines()[0]}"
    return (ending.run.name, str(ending.run.combination), *figures, str(ending.step or ""), status)


def _answer(ending: Ending) -> dict[str, Any]:
    return {
        "name": ending.run.name,
        "settings": ending.run.combination.settings,
        "output_dir": ending.run.folder,
        "status": ending.status,
        "step": ending.step,
        "loss": ending.loss,
        "eval_loss": ending.eval_loss,
        "error": ending.error,
    }
