"""Which file of a model folder is damaged, once something in it could not be loaded."""

from __future__ import annotations

import json
from os.path import expanduser
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

INDEX = "model.safetensors.index.json"
_JSON = (
    "config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json",
    "added_tokens.json", INDEX,
)  # fmt: skip
_AGAIN = "copy or download it again"


def find_damage(folder: Path) -> str | None:
    """The first file that is not what its name says, with the reason; None where all can be read."""
    for name in _JSON:
        if (folder / name).exists() and (fault := _json_fault(folder / name)) is not None:
            return f"{folder / name} {fault}: {_AGAIN}"
    for path in _weights(folder):
        if (fault := _tensor_fault(path)) is not None:
            return f"{path} {fault}: {_AGAIN}"
    return None


def reason_of(error: Exception, name: str) -> str:
    """Why something of the model `name` could not be loaded: its damaged file, or what the library says in a line."""
    folder = Path(expanduser(name))
    if folder.is_dir() and (damage := find_damage(folder)) is not None:
        return damage
    lines = [line.strip() for line in str(error).strip().split("\n") if line.strip()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if type(error).__name__.startswith("StrictDataclass"):  # huggingface_hub's check of a config's fields
        return f"{folder / 'config.json'}: {said}"
    return f"it names {said}, which is not known" if isinstance(error, KeyError) else said


def _weights(folder: Path) -> list[Path]:
    """Files that hold weights, those that the index names and that are missing too."""
    named = set[Path]()
    if (folder / INDEX).is_file():
        weight_map: Any = json.loads((folder / INDEX).read_text(encoding="utf-8")).get("weight_map")
        named = {folder / str(file) for file in weight_map.values()} if isinstance(weight_map, dict) else set()
    return sorted({*folder.glob("*.safetensors"), *named})


def _json_fault(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot be read as JSON ({error})"
    if not isinstance(content, dict):
        return "holds no JSON object"
    if path.name == INDEX and not isinstance(content.get("weight_map"), dict):
        return "has no weight_map"
    return _tokenizer_fault(path) if path.name == "tokenizer.json" else None


def _tokenizer_fault(path: Path) -> str | None:
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises nothing more special
        return f"is no tokenizer ({error})"
    return None


def _tensor_fault(path: Path) -> str | None:
    if not path.is_file():
        return "is missing" if not path.exists() else "is no file"
    if path.stat().st_size == 0:
        return "is empty"
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            return "is a pointer of Git LFS and not the weights (`git lfs pull` fetches them)"
    try:
        with safe_open(path, framework="pt"):
            return None
    except (OSError, SafetensorError) as error:
        return f"is cut short or damaged ({error})"
