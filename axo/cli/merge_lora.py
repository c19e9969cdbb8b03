"""`axo merge-lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from axo.cli.common import Debug, Json, RecipePath, load_recipe, located, print_json
from axo.log import LOG


def merge_lora(
    ctx: typer.Context,
    recipe: RecipePath,
    out: Annotated[Path | None, typer.Option(help="Folder of the merged model. [default: output_dir/merged]")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare the merged model with base + adapter afterwards.")
    ] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Merge a trained LoRA adapter into its base model.

    Reads base_model and the adapter in output_dir (lora_model_dir where set). Writes a whole model with tokenizer
    to output_dir/merged, then compares its logits with base + adapter in a second process: exit code 5 where they
    differ by more than rounding explains."""
    del debug
    from axo.workflows.merge import merge

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        merged = merge(loaded.recipe, out=out, check=check, show=LOG.info)
    if json:
        print_json({"merge": vars(merged.merge), "check": None if merged.check is None else vars(merged.check)})
        return
    report = merged.merge
    print(
        f"{report.out}: {report.tensors} tensors ({report.merged} merged, {report.replaced} replaced), "
        f"{report.bytes / 1e6:,.1f} MB in {report.dtype}, {report.seconds:.1f} s"
    )
    for note in report.notes:
        print(f"note: {note}")
    if merged.check is not None:
        print(
            f"logits against base + adapter: max difference {merged.check.max_difference:.2e} "
            f"(bound {merged.check.bound:.2e}), mean {merged.check.mean_difference:.2e}, "
            f"same best token at {merged.check.top1_agreement:.2%} of {merged.check.positions} positions"
        )
