"""Where a recipe's run left what it trained."""

from __future__ import annotations

from pathlib import Path

from axo.errors import CheckpointError
from axo.recipe.recipe import Recipe


def trained_folder(recipe: Recipe) -> Path:
    """Folder of the trained adapter or model. Raises CheckpointError where nothing was trained yet."""
    folder = Path(recipe.adapters.lora_model_dir or recipe.run.output_dir)
    wanted = "adapter_config.json" if recipe.adapters.adapter else "config.json"
    if not (folder / wanted).is_file():
        raise CheckpointError(f"{folder} has no {wanted}: nothing was trained there", "run `axo train` first")
    return folder
