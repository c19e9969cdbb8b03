"""`axo launch`: files that other systems start axo with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from axo.cli.common import Debug, RecipePath, chosen, load_recipe, located
from axo.errors import LaunchError


def slurm(
    ctx: typer.Context,
    recipe: RecipePath,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes that train together.")] = 1,
    gpus_per_node: Annotated[
        int | None, typer.Option("--gpus-per-node", min=1, help="GPUs of each node; unset: nodes without GPUs.")
    ] = None,
    partition: Annotated[str | None, typer.Option("--partition", help="Partition (queue) of the cluster.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Account that pays.")] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="D-HH:MM:SS", help="Longest time; the partition's own where unset.")
    ] = None,
    job_name: Annotated[
        str | None, typer.Option("--job-name", help="Name of the job; the recipe's where unset.")
    ] = None,
    cpus_per_task: Annotated[
        int | None, typer.Option("--cpus-per-task", min=1, help="CPUs on each node: all workers share them.")
    ] = None,
    mem: Annotated[str | None, typer.Option("--mem", metavar="SIZE", help="Memory of each node, such as 500G.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Variable to export; repeatable.")
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(
            "--setup",
            metavar="LINE",
            help="Line of shell to run first, such as 'source venv/bin/activate'; repeatable.",
        ),
    ] = None,
    log: Annotated[
        str, typer.Option("--log", metavar="FILE", help="What the job prints; %x: name, %j: job.")
    ] = "%x-%j.out",
    grace: Annotated[
        int,
        typer.Option("--grace", metavar="SECONDS", min=1, help="Save a checkpoint so long before the time is over."),
    ] = 300,
    requeue: Annotated[
        bool, typer.Option("--requeue/--no-requeue", help="Queue the job again after it was stopped and saved.")
    ] = True,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="Write the sbatch file here; unset: to stdout.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Run sbatch and print the number of the job.")] = False,
    debug: Debug = False,
) -> None:
    """Write the sbatch file that trains a recipe on SLURM, or submit it.

    Reads the recipe and checks it. The job runs one `axo train` on each node; nodes, GPUs and the place to meet are
    found there. Before its time is over, and when it is preempted, it saves a checkpoint, and is queued again."""
    del debug
    from axo.launch.slurm import SlurmJob
    from axo.workflows.launch_slurm import script_for

    recipe = chosen(recipe)
    loaded = load_recipe(recipe, ctx.args)
    job = SlurmJob(
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        job_name=job_name or loaded.path.stem,
        partition=partition,
        account=account,
        time=time,
        cpus_per_task=cpus_per_task,
        mem=mem,
        log=log,
        environment=_environment(env or ()),
        setup=setup or (),
        grace_seconds=grace,
        requeue=requeue,
    )
    with located(loaded):
        script = script_for(loaded, job, recipe=recipe, overrides=ctx.args)
    _hand_over(script, output=output, submit=submit)


def _environment(words: Sequence[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    bad = [name for name, equals, _ in pairs if not equals]
    if bad:
        raise LaunchError(f"--env {bad[0]} has no value", "write --env NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _hand_over(script: str, *, output: str | None, submit: bool) -> None:
    from axo.launch.slurm import submit as submit_script

    if output is not None:
        Path(output).write_text(script, encoding="utf-8")
        print(f"written: {output}" + ("" if submit else f"; next: sbatch {output}"), file=sys.stderr)
    if submit:
        print(submit_script(script))
    elif output is None:
        print(script, end="")
