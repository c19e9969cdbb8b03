"""Facts about this machine and a recipe's base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axo.errors import RecipeError
from axo.plan.cluster import Cluster
from axo.plan.facts import Facts, find_hardware, read_model_config
from axo.plan.model_config import changed_config, config_faults
from axo.plan.places import find_places, refuse_later
from axo.recipe.read import LoadedRecipe
from axo.recipe.recipe import Recipe


def find_facts(recipe: Recipe, *, recipe_folder: Path | None = None, cluster: Cluster | None = None) -> Facts:
    """Hardware through NVML, config.json as JSON: torch stays unloaded, and no network is asked. `cluster`: the nodes
    that train together, where there are several or a launcher has a say.

    Recipes in `recipe_folder` may write what this one starts from, and not have been run yet. Raises RecipeError for
    a model that is neither here nor can be on the hub."""
    places = find_places(recipe, recipe_folder=recipe_folder)
    model = recipe.model
    if model.base_model_config is not None:
        key, name, revision = "base_model_config", model.base_model_config, None
    else:
        key, name, revision = "base_model", model.base_model, model.revision_of_model
    stored = None if key in places else read_model_config(name, revision=revision, key=key)
    config = model_config_of(recipe, stored)
    return Facts(
        hardware=find_hardware(),
        model_config=config,
        places=places,
        stored_config=None if config is stored else stored,
        cluster=cluster or Cluster(),
    )


def model_config_of(recipe: Recipe, stored: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What of the model will be loaded: its config.json with the recipe's overrides.

    Raises RecipeError for overrides that do not fit it."""
    if stored is None:
        return None
    findings = [*config_faults(recipe.model, stored)]
    if findings:
        raise RecipeError(findings)
    return changed_config(recipe.model, stored)


def check_written(loaded: LoadedRecipe) -> None:
    """Raise RecipeError where another recipe beside this one has to be trained first."""
    refuse_later(find_places(loaded.recipe, recipe_folder=loaded.path.parent))
