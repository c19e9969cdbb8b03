"""Facts about this machine and a recipe's base model."""

from __future__ import annotations

from pathlib import Path

from axo.plan.facts import Facts, find_hardware, read_model_config
from axo.recipe.recipe import Recipe


def find_facts(recipe: Recipe) -> Facts:
    """Hardware through NVML, config.json as JSON: torch stays unloaded.

    A base_model folder that is not there yet is left to whoever loads it."""
    source = recipe.model.base_model_config or recipe.model.base_model
    config = read_model_config(source, revision=recipe.model.revision_of_model) if Path(source).is_dir() else None
    return Facts(hardware=find_hardware(), model_config=config)
