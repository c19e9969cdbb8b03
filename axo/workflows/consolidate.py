"""`axo consolidate`: find the shards, make a plain model of them, and check that it is whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axo.errors import CheckpointError
from axo.log import quiet_transformers

if TYPE_CHECKING:
    from axo.export.consolidate import ConsolidateReport

OUT = "merged"


def consolidate_folder(
    folder: Path, *, out: Path | None, trust_remote_code: bool = False, show: Callable[[str], None]
) -> ConsolidateReport:
    """Make a model of a checkpoint, of the trained model in an output_dir, or of its newest checkpoint.

    Raises CheckpointError where nothing lies in shards there, saying what does."""
    from axo.export.consolidate import consolidate, convert_with
    from axo.train.manifest import MANIFEST, verify
    from axo.train.verify import check_model

    source = _source(folder)
    if source.name.startswith("checkpoint-") and (source / MANIFEST).is_file():
        verify(source)
    target = out or (source.parent if source.name.startswith("checkpoint-") else source) / OUT
    show(f"consolidating {source} into {target}")
    model = _blank_model(source, trust_remote_code=trust_remote_code)
    return consolidate(source, target, convert=convert_with(model), check=partial(check_model, model=model))


def _source(folder: Path) -> Path:
    """The folder whose shards are meant."""
    from axo.export.consolidate import has_shards
    from axo.train.checkpoint import newest

    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder", "name a recipe, an output_dir or a checkpoint-...")
    own = folder if has_shards(folder) or folder.name.startswith("checkpoint-") else None
    source = own or (folder if _holds(folder) else newest(folder))
    if source is None:
        raise CheckpointError(f"{folder} holds no checkpoint and no trained model", "run `axo train` first")
    whole = _holds(source)
    if whole is not None:
        raise CheckpointError(f"{source} holds {whole[0]}: nothing lies in shards there", whole[1])
    if not has_shards(source):
        raise CheckpointError(
            f"{source} holds no model in shards", "fsdp saves them; DeepSpeed's state goes on with `axo train` alone"
        )
    return source


def _holds(folder: Path) -> tuple[str, str] | None:
    """What can be used as it is, and how."""
    if any(folder.glob("model*.safetensors")):
        return "a whole model already", "use it as it is"
    if (folder / "adapter_model.safetensors").is_file():
        return "the whole adapter already", "use it as it is, or merge it: `axo merge-lora RECIPE`"
    return None


def _blank_model(folder: Path, *, trust_remote_code: bool) -> Any:
    """The model without its weights: names, shapes and what transformers calls them in files."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, dtype=config.dtype)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: no model can be made of its config.json: {str(error).strip()}",
            "name the recipe instead of the folder where the model needs trust_remote_code",
        ) from error
