"""Where a recipe's run left what it trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axo.errors import CheckpointError, HardwareError
from axo.log import LOG
from axo.model.fingerprint import fingerprint
from axo.recipe.recipe import Recipe
from axo.train import output_dir


def trained_folder(recipe: Recipe) -> Path:
    """Folder of the trained adapter or model. Raises CheckpointError where nothing was trained yet."""
    folder = Path(recipe.adapters.lora_model_dir or recipe.run.output_dir)
    wanted = "adapter_config.json" if recipe.adapters.adapter else "config.json"
    if not (folder / wanted).is_file():
        raise CheckpointError(f"{folder} has no {wanted}: nothing was trained there", "run `axo train` first")
    if recipe.adapters.adapter:
        _warn_of_other_base(recipe, folder)
    return folder


@contextmanager
def enough_memory(hint: str) -> Iterator[None]:
    """Running out of a GPU's memory inside becomes a HardwareError."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise HardwareError(f"out of memory: {str(error).strip().splitlines()[0]}", hint) from error


def _warn_of_other_base(recipe: Recipe, folder: Path) -> None:
    """An adapter fits every base of the same shape, and means something on one of them only."""
    former = output_dir.read_trajectory(folder)
    then = None if former is None else former.get("base_weights")
    now = fingerprint(recipe.model.base_model)
    if None not in (then, now) and then != now:
        message = "the adapter in %s was trained on other weights than those of base_model %s: what it learnt is lost"
        LOG.warning(message, folder, recipe.model.base_model)
