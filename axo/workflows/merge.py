"""`axo merge-lora`: merge an adapter into its base and check the result in a second process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axo.errors import Finding, RecipeError
from axo.recipe.recipe import Recipe

MERGED = "merged"


@dataclass(frozen=True)
class Merged:
    """What was written and how far it is from base + adapter."""

    merge: Any
    """axo.export.merge.MergeReport."""
    check: Any
    """axo.export.check.CheckReport, or None where the check was left out."""


def merge(recipe: Recipe, *, out: Path | None, check: bool, show: Callable[[str], None]) -> Merged:
    """Merge the adapter of a recipe's run into base_model; by default into output_dir/merged.

    Raises CheckpointError where nothing was trained, or the merged model answers differently."""
    from axo.export.check import check_merged
    from axo.export.hub import base_folder
    from axo.export.merge import merge_lora
    from axo.workflows.trained import trained_folder

    if recipe.adapters.adapter is None:
        message = "unset: full fine-tuning leaves a whole model in output_dir, there is nothing to merge"
        raise RecipeError([Finding("adapter", message, "use output_dir as it is")])
    base = base_folder(recipe.model.base_model, revision=recipe.model.revision_of_model)
    adapter = trained_folder(recipe)
    target = out or adapter / MERGED
    show(f"merging {adapter} into {base}")
    eot_tokens = recipe.tokenizer.eot_tokens or ()
    report = merge_lora(base=base, adapter=adapter, out=target, tokenizer_from=None, eot_tokens=eot_tokens)
    if not check:
        return Merged(report, None)
    show("checking the merged model against base + adapter in a second process")
    trusted = recipe.model.trust_remote_code
    return Merged(report, check_merged(base=base, adapter=adapter, merged=target, trust_remote_code=trusted))
