"""`axo init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from axo.cli.common import Debug, Json, print_json

if TYPE_CHECKING:
    from axo.workflows.init import Starter


def init(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file to write.")],
    model: Annotated[str, typer.Option(help="Folder or hub name of the model to start from.")],
    data: Annotated[
        str | None, typer.Option(help="Data file or folder; its first rows say which format it is. [default: a blank]")
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(metavar="GIB", help="Memory of one GPU. [default: this machine's smallest GPU]")
    ] = None,
    adapter: Annotated[
        Literal["lora", "none"], typer.Option(help="Train an adapter, or all weights of the model.")
    ] = "lora",
    output_dir: Annotated[str, typer.Option(help="Folder that a run of the recipe will write to.")] = "./out",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a starter recipe with a comment on every line.

    Reads the first 200 rows of --data, and config.json where --model is a folder; the size of a hub model is read
    from its name (8B, 0.6B). Writes RECIPE and nothing else; a file that is there stays, unless --force is given.

    How the batch is chosen: 2.16 bytes for each parameter with LoRA, 18 without (8 where only bfloat16 weights fit),
    1.3 GiB for CUDA and the output head, and for each token of a row 75 x hidden_size x layers bytes, or with
    gradient_checkpointing hidden_size x (2 x layers + 75), within 90 % of the GPU's memory. Eight rows make a step;
    as many of them as fit are computed at a time."""
    del debug
    from axo.workflows.init import write_starter

    starter = write_starter(
        recipe,
        model=model,
        data=data,
        gpu_memory=gpu_memory,
        adapter=adapter,
        output_dir=output_dir,
        force=force,
    )
    if json:
        print_json(_answer(starter))
        return
    print(f"{starter.path}: written")
    print(f"model: {starter.about}")
    if starter.look is not None:
        print(f"data: {_kind(starter)}, {starter.look.format.why}")
        if starter.look.unused:
            print(f"columns not used: {', '.join(starter.look.unused)}")
    else:
        print("data: none given: put the path of yours into the recipe")
    name = shlex.quote(starter.path)
    print(f"next:\n  axo validate {name}\n  axo train {name} --smoke\n  axo train {name}")


def _kind(starter: Starter) -> str:
    assert starter.look is not None
    kind = starter.look.format.type
    return f"type {kind}" if isinstance(kind, str) else "a type of your columns"


def _answer(starter: Starter) -> dict[str, object]:
    look, batch = starter.look, starter.batch
    return {
        "recipe": starter.path,
        "type": None if look is None else look.format.type,
        "unused_columns": [] if look is None else list(look.unused),
        "sequence_len": batch.sequence_len,
        "micro_batch_size": batch.micro_batch_size,
        "gradient_accumulation_steps": batch.gradient_accumulation_steps,
        "gradient_checkpointing": batch.gradient_checkpointing,
        "needed_bytes": None if batch.needed_bytes is None else round(batch.needed_bytes),
        "fits": batch.fits,
        "about": starter.about,
    }
