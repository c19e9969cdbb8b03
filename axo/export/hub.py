"""The folder of a base model that is named as on the Hugging Face hub."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from axo.errors import CheckpointError
from axo.model.hub import EXPECTED, cache_only, quiet_hub
from axo.plan.places import can_be_hub_name

_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.py", "LICENSE*", "NOTICE*"]


def base_folder(name: str, *, revision: str | None = None) -> Path:
    """`name` itself if it is a folder, else the hub's model of that name, downloaded once.

    Raises:
        CheckpointError: neither a folder nor a model in the hub's cache, and the hub cannot be reached or has none.
    """
    folder = Path(expanduser(name))
    if folder.is_dir():
        return folder
    if not can_be_hub_name(name):
        raise CheckpointError(f"{name}: no such folder", EXPECTED)
    cached = cache_only(name, revision=revision)
    try:
        with quiet_hub():
            return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, local_files_only=cached))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{name}: not all of it could be fetched from the hub ({type(error).__name__})",
            "run the same command again while the machine is online, or name a local folder",
        ) from error
