"""`axo evaluate`: the evaluation of the training loop, on a trained adapter or model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from axo.errors import CheckpointError, RecipeError
from axo.errors import Finding as RecipeFinding
from axo.recipe.recipe import Recipe
from axo.train.evaluate import Evaluation
from axo.workflows.prepare import Preparation, prepare_run


def evaluate(recipe: Recipe, *, base: bool, show: Callable[[str], None]) -> Evaluation:
    """Score the recipe's evaluation data on one device with what was trained, or with base_model alone."""
    prepared = prepare_run(recipe, show=show)
    from axo.train.orders import open_prepared

    data = open_prepared(
        prepared.train.path,
        None if prepared.evaluation is None else prepared.evaluation.path,
        data=recipe.data,
        section=recipe.batch,
        batch=prepared.plan.batch,
        seed=recipe.run.seed,
    )
    if data.eval_order is None:
        message = "the recipe holds no evaluation data"
        raise RecipeError([RecipeFinding("val_set_size", message, "set val_set_size or test_datasets")])
    return _score(recipe, prepared, data, base=base)


def _score(recipe: Recipe, prepared: Preparation, data: object, *, base: bool) -> Evaluation:
    raise NotImplementedError


def trained_folder(recipe: Recipe) -> Path:
    """Where the trained adapter or model is. Raises CheckpointError where nothing was trained yet."""
    folder = Path(recipe.adapters.lora_model_dir or recipe.run.output_dir)
    wanted = "adapter_config.json" if recipe.adapters.adapter else "config.json"
    if not (folder / wanted).is_file():
        raise CheckpointError(f"{folder} has no {wanted}: nothing was trained there", "run `axo train` first")
    return folder
