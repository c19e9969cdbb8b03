"""`axo merge-lora`: merge an adapter into its base and check the result in a second process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axo.errors import Finding, RecipeError
from axo.recipe.recipe import Recipe
from axo.workflows.changed_base import base_as_trained

MERGED = "merged"


@dataclass(frozen=True)
class Merged:
    """What was written and how far it is from base + adapter."""

    merge: Any
    """axo.export.merge.MergeReport."""
    check: Any
    """axo.export.check.CheckReport, or None where the check was left out."""
    base: str
    """Which weights the adapter was merged into, where the base of the run was quantised; else empty."""


def merge(
    recipe: Recipe, *, out: Path | None, check: bool, dequantise: bool = False, show: Callable[[str], None]
) -> Merged:
    """Merge the adapter of a recipe's run into base_model; by default into output_dir/merged. With `dequantise` into
    the values that base_model's weights had after the run quantised them.

    Raises CheckpointError where nothing was trained, or the merged model answers differently, and RecipeError for
    `dequantise` where the run quantised nothing."""
    from axo.export.check import check_merged
    from axo.export.hub import base_folder
    from axo.export.merge import merge_lora
    from axo.model.tokenizer import rows_multiple_of
    from axo.workflows.merge_quantised import find_trained_base, rounding_of
    from axo.workflows.trained import as_trained, trained_folder

    if recipe.adapters.adapter is None:
        message = "unset: full fine-tuning leaves a whole model in output_dir, there is nothing to merge"
        raise RecipeError([Finding("adapter", message, "use output_dir as it is")])
    base = base_folder(recipe.model.base_model, revision=recipe.model.revision_of_model)
    adapter = trained_folder(recipe)
    recipe = as_trained(recipe, adapter)
    target = out or adapter / MERGED
    trained = find_trained_base(recipe, base, dequantise=dequantise)
    show(f"merging {adapter} into {base}{f': {trained.words}' if trained.words else ''}")
    trust = recipe.model.trust_remote_code
    with base_as_trained(recipe, base) as view:
        report = merge_lora(
            base=view,
            adapter=adapter,
            out=target,
            tokenizer_from=None,
            eot_tokens=recipe.tokenizer.eot_tokens or (),
            rows_multiple=rows_multiple_of(recipe.tokenizer),
            rounding=rounding_of(trained, view, trust_remote_code=trust) if dequantise else None,
            named=base,
        )
        if not check:
            return Merged(report, None, trained.words)
        show("checking the merged model against base + adapter in a second process")
        found = check_merged(
            base=view, adapter=adapter, merged=target, trust_remote_code=trust, quantised=trained.quantised
        )
        return Merged(report, found, trained.words)
