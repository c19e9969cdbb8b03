"""`axo merge-lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    dequant: Annotated[
        bool,
        typer.Option("--dequant", help="Merge into the base's weights as the run quantised them, dequantised."),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Merge a trained LoRA adapter into its base model.

    Reads base_model and the adapter in output_dir (lora_model_dir where set). Writes a whole model with tokenizer
    to output_dir/merged, then compares its logits with base + adapter in a second process: exit code 5 where they
    differ by more than rounding explains.

    An adapter that was trained beside weights in 4 or 8 bits (load_in_4bit, load_in_8bit) is merged into the original
    weights of base_model, or with --dequant into the quantised ones, dequantised; how far the merged model is from
    what was trained is measured and printed. Files in few bits (GPTQ, bitsandbytes) are always dequantised."""
    del debug
    from axo.workflows.merge import merge

    loaded = load_recipe(recipe, ctx.args)
    with located(loaded):
        merged = merge(loaded.recipe, out=out, check=check, dequantise=dequant, show=LOG.info)
    if json:
        print_json(
            {
                "merge": vars(merged.merge),
                "check": None if merged.check is None else vars(merged.check),
                "base": merged.base,
            }
        )
        return
    report = merged.merge
    print(
        f"{report.out}: {report.tensors} tensors ({report.merged} merged, {report.replaced} replaced), "
        f"{report.bytes / 1e6:,.1f} MB in {report.dtype}, {report.seconds:.1f} s"
    )
    if merged.base:
        print(f"merged {merged.base}")
    for note in report.notes:
        print(f"note: {note}")
    if merged.check is not None:
        print(
            f"logits against base + adapter: max difference {merged.check.max_difference:.2e} "
            f"(bound {merged.check.bound:.2e}), mean {merged.check.mean_difference:.2e}, "
            f"same best token at {merged.check.top1_agreement:.2%} of {merged.check.positions} positions"
        )
        _tell_of_trained(merged)


def _tell_of_trained(merged: Any) -> None:
    """How far the merged model is from the quantised base and the adapter, which is what was trained."""
    if not merged.base:
        return
    if merged.check.from_trained_max is None:
        print("logits against quantised base + adapter: not measured, the package that quantises is not installed")
        return
    print(
        f"logits against quantised base + adapter, as trained: max difference {merged.check.from_trained_max:.2e}, "
        f"mean {merged.check.from_trained_mean:.2e} (the adapter's own effect: {merged.check.adapter_effect:.2e})"
    )
