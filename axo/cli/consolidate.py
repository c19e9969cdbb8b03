"""`axo consolidate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from axo.cli.common import Debug, Json, load_recipe, located, print_json
from axo.cli.complete import recipe_files
from axo.log import LOG

Source = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FOLDER",
        help="YAML recipe (the trained model in its output_dir, else the newest checkpoint there), an output_dir, or a "
        "checkpoint-... folder.",
        autocompletion=recipe_files,
    ),
]


def consolidate(
    ctx: typer.Context,
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Folder of the model. [default: output_dir/merged]")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a plain model of one that FSDP saved in shards.

    Writes safetensors in transformers' layout with configuration and tokenizer, layer by layer: it takes no GPU, no
    workers, and memory for one file of the model. Reads back that names, shapes and bytes are those of the model."""
    del debug
    from axo.workflows.consolidate import consolidate_folder

    if Path(source).is_dir():
        report = consolidate_folder(Path(source), out=out, show=LOG.info)
    else:
        loaded = load_recipe(source, ctx.args)
        with located(loaded):
            recipe = loaded.recipe
            report = consolidate_folder(
                Path(recipe.run.output_dir),
                out=out,
                trust_remote_code=recipe.model.trust_remote_code,
                show=LOG.info,
            )
    if json:
        print_json(vars(report))
        return
    print(
        f"{report.out}: {report.tensors} tensors of {report.workers} workers, {report.bytes / 1e6:,.1f} MB in "
        f"{report.files} {'file' if report.files == 1 else 'files'}, {report.seconds:.1f} s"
    )
