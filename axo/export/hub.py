"""The folder of a base model that is named as on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from axo.errors import CheckpointError

_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.py", "LICENSE*", "NOTICE*"]


def base_folder(name: str, *, revision: str | None = None) -> Path:
    """`name` itself if it is a folder, else the hub's model of that name, downloaded once.

    Raises:
        CheckpointError: neither a folder nor a model in the hub's cache, and the hub cannot be reached or has none.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{name}: no such folder, and not to be had from the Hugging Face hub ({type(error).__name__})",
            "name a local folder, or download the model while the machine is online",
        ) from error
