"""Where a path of a recipe is: in the working directory, beside the recipe, or shipped with axo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

KEYS = (
    "base_model",
    "base_model_config",
    "tokenizer_config",
    "lora_model_dir",
    "resume_from_checkpoint",
    "chat_template_jinja",
    "deepspeed",
)
"""Keys that hold a path of something to read (some a hub name or a text instead)."""
ENTRY_KEYS = ("path", "chat_template_jinja")
"""The same, of each data set."""
SHIPPED = ("recipes", "deepspeed_configs")
"""First folder of a path that may mean files shipped with axo."""


def find(path: str, *, recipe_dir: Path | None = None) -> tuple[Path | None, str | None]:
    """The file or folder that `path` means, and a note where it is not the one in the working directory.

    (None, None) where there is none: `path` may still be a hub name or an address."""
    given = Path(os.path.expanduser(path))  # unlike Path's, no error for a user who is not known
    if _exists(given):
        return given, None
    if given.is_absolute():
        return None, None
    if recipe_dir is not None and _exists(recipe_dir / given):
        return (
            recipe_dir / given,
            f"{path} is not in the working directory, but beside the recipe: {recipe_dir / given}",
        )
    if given.parts[:1] and given.parts[0] in SHIPPED and (shipped := _shipped(given)) is not None:
        return shipped, f"{path} is not in the working directory, but shipped with axo: {shipped}"
    return None, None


def settle(flat: Mapping[str, Any], *, recipe_dir: Path | None) -> tuple[dict[str, Any], list[str]]:
    """`flat` with every path that is found elsewhere than in the working directory rewritten, and a note on each."""
    notes: list[str] = []

    def settled(mapping: Mapping[str, Any], keys: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
        result = dict(mapping)
        for key in keys:
            value = mapping.get(key)
            if not isinstance(value, str) or not _may_be_path(value):
                continue
            path, note = find(value, recipe_dir=recipe_dir)
            if path is not None and path != Path(value):
                result[key] = str(path)
                notes.append(f"{prefix}{key}: {note or f'{value} is {path}'}")
        return result

    result = settled(flat, KEYS)
    for key in ("datasets", "test_datasets"):
        if isinstance(result.get(key), list):
            result[key] = [
                settled(cast("dict[str, Any]", entry), ENTRY_KEYS, f"{key}.{index}.")
                if isinstance(entry, dict)
                else entry
                for index, entry in enumerate(result[key])
            ]
    return result, notes


def _shipped(path: Path) -> Path | None:
    """In a wheel the folders lie inside the package, in a checkout beside it."""
    package = Path(str(files("axo")))
    folders = [package]
    if (package.parent / "pyproject.toml").is_file():
        folders.append(package.parent)
    return next((folder / path for folder in folders if _exists(folder / path)), None)


def _may_be_path(text: str) -> bool:
    return bool(text) and "\n" not in text and "{" not in text and "://" not in text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False
