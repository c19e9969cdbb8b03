"""Where a recipe's run left what it trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axo.errors import CheckpointError, HardwareError
from axo.log import LOG
from axo.model.fingerprint import fingerprint
from axo.recipe.recipe import Recipe
from axo.train import output_dir


def trained_folder(recipe: Recipe) -> Path:
    """Folder of the trained adapter or model. Raises CheckpointError where nothing was trained yet."""
    folder = _folder(recipe)
    wanted = "adapter_config.json" if recipe.adapters.adapter else "config.json"
    if not (folder / wanted).is_file():
        raise CheckpointError(f"{folder} has no {wanted}: nothing was trained there", "run `axo train` first")
    if recipe.adapters.adapter:
        _warn_of_other_base(recipe, folder)
    elif (folder / "engine").is_dir() and not any(folder.glob("model*.safetensors")):
        raise CheckpointError(
            f"the trained model in {folder} lies in shards",
            f"run `axo consolidate {folder}` and use what it makes, or set final_state_dict_type: FULL_STATE_DICT",
        )
    return folder


def _folder(recipe: Recipe) -> Path:
    """output_dir, or lora_model_dir unless a run went on from there and has finished its own in output_dir."""
    start, own = recipe.adapters.lora_model_dir, Path(recipe.run.output_dir)
    if start is None:
        return own
    former = output_dir.read_trajectory(own) if (own / "adapter_config.json").is_file() else None
    if former is not None and former.get("lora_model_dir") == str(Path(start).resolve()):
        LOG.info("the adapter in %s is used, which was trained from that in lora_model_dir", own)
        return own
    return Path(start)


def as_trained(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the keys that make the base model what it was when the run in `folder` was trained; a recipe
    may have been changed since, and the adapter fits only that model."""
    former = output_dir.read_trajectory(folder)
    if former is None:
        return recipe
    changed: list[str] = []
    sections: dict[str, Any] = {}
    for name, keys in _BASE_KEYS.items():
        section = getattr(recipe, name)
        then = {key: former.get(key, type(section).model_fields[key].get_default()) for key in keys}
        now = section.model_dump(mode="json", include=set(keys))
        changed += [key for key in keys if now[key] != then[key]]
        sections[name] = type(section).model_validate(section.model_dump() | then)
    if not changed:
        return recipe
    LOG.warning("%s: the run in %s was trained with other values, which are taken", ", ".join(changed), folder)
    return recipe.model_copy(update=sections)


_BASE_KEYS = {
    "model": ("overrides_of_model_config", "rope_scaling", "cls_model_config"),
    "tokenizer": ("resize_token_embeddings_to_32x",),
    "quantization": ("load_in_4bit", "load_in_8bit", "gptq", "bnb_config_kwargs"),
}


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
