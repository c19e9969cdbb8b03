"""Where the models that a recipe names lie: in a folder here, in the hub's cache, on the hub, or nowhere yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from os.path import expanduser
from pathlib import Path
from typing import Literal

from axo.errors import Finding, RecipeError
from axo.plan.hub_cache import cached_file
from axo.recipe.recipe import Recipe

MAX_NAME = 96
"""Longest name on the hub, with its owner (huggingface_hub, utils/_validators.py)."""
MAX_RECIPES = 50
MAX_RECIPE_BYTES = 64 * 2**10
"""Of the files beside a recipe that are looked at: more of them, or larger ones, are a folder of something else."""


@dataclass(frozen=True)
class Place:
    """Of a model that is no folder on this machine."""

    name: str
    kind: Literal["hub", "later"]
    """`later`: a path that another recipe writes, and has not written yet."""
    why: str


def find_places(recipe: Recipe, *, recipe_folder: Path | None) -> dict[str, Place]:
    """Key -> place of each model, tokenizer or adapter that is not on this machine.

    Raises RecipeError where a name is neither a folder nor can be a hub name."""
    written = _Written(recipe_folder, own=Path(recipe.run.output_dir))
    places: dict[str, Place] = {}
    findings: list[Finding] = []
    for key, name, revision in _named(recipe):
        found = _place(key, name, revision=revision, written=written)
        if isinstance(found, Finding):
            findings.append(found)
        elif found is not None:
            places[key] = found
    if findings:
        raise RecipeError(findings)
    return places


def refuse_later(places: Mapping[str, Place]) -> None:
    """Raise RecipeError for what another recipe has to write first."""
    findings = [
        Finding(key, f"there is no folder {place.name!r}", place.why)
        for key, place in places.items()
        if place.kind == "later"
    ]
    if findings:
        raise RecipeError(findings)


def can_be_hub_name(name: str) -> bool:
    """Whether the hub could have a model of that name: `name` or `owner/name`, by the rules of huggingface_hub."""
    return (
        len(name) <= MAX_NAME
        and _HUB_NAME.fullmatch(name) is not None
        and not any(mark in name for mark in ("--", ".."))
        and not name.endswith(".git")
    )


_HUB_NAME = re.compile(r"\w([\w.-]*\w)?(/\w([\w.-]*\w)?)?", re.ASCII)
_OUTPUT_DIR = re.compile(r"^output_dir:[ \t]*(?P<quote>['\"]?)(?P<path>[^'\"#\n]+?)(?P=quote)[ \t]*(#.*)?$", re.M)
_CACHED = {"tokenizer_config": ("tokenizer_config.json", "tokenizer.json")}
"""Files of which one shows that the hub's cache holds the thing; of models, config.json."""


def _named(recipe: Recipe) -> Iterator[tuple[str, str, str | None]]:
    """Key, name and revision."""
    model = recipe.model
    yield "base_model", model.base_model, model.revision_of_model
    if model.base_model_config is not None:
        yield "base_model_config", model.base_model_config, None
    if recipe.tokenizer.tokenizer_config is not None:
        yield "tokenizer_config", recipe.tokenizer.tokenizer_config, None
    if recipe.adapters.lora_model_dir is not None:
        yield "lora_model_dir", recipe.adapters.lora_model_dir, None


def _place(key: str, name: str, *, revision: str | None, written: _Written) -> Place | Finding | None:
    path = Path(expanduser(name)) if name.startswith("~") else Path(name)
    try:
        if path.is_dir():
            return None
        if path.exists():
            return Finding(key, f"{name!r} is a file, expected the folder of a model", "name the folder that holds it")
    except (OSError, ValueError):  # a name too long, or with a NUL
        return Finding(key, f"{name[:MAX_NAME]!r} is no name of a folder", _EXPECTED)
    folder = next((folder for folder in (path, *path.parents) if folder in written.folders), None)
    if folder is not None:
        return Place(name, "later", f"{written.folders[folder]} writes {folder}: train that recipe first")
    if key == "lora_model_dir":  # an adapter is never fetched
        return Finding(key, f"there is no folder {name!r}", "expected: the folder of a trained adapter")
    if not can_be_hub_name(name):
        return Finding(key, f"there is no folder {name!r}", _EXPECTED)
    if _is_cached(key, name, revision):
        return None
    return Place(name, "hub", f"not on this machine: {_near(path, written.owners)}fetched from the hub")


_EXPECTED = "expected: a folder saved by transformers (config.json, *.safetensors) or the name of a model on the hub"


def _near(path: Path, owners: Mapping[str, str]) -> str:
    """What makes the name look like a path: its first folder is here, or is where a recipe writes."""
    if len(path.parts) < 2:
        return ""
    owner = path.parts[0]
    if Path(owner).is_dir():
        return f"the folder {owner} is here and has no {path.relative_to(owner)}; "
    return f"there is no folder {path}, though {owners[owner]} writes into {owner}; " if owner in owners else ""


class _Written:
    """What the recipes beside a recipe write; they are read only when somebody asks."""

    def __init__(self, recipe_folder: Path | None, *, own: Path) -> None:
        self._recipe_folder, self._own = recipe_folder, own

    @cached_property
    def folders(self) -> Mapping[Path, str]:
        """Output folder -> the recipe that writes it; without the folder of the recipe itself."""
        found: dict[Path, str] = {}
        for file in _recipes_in(self._recipe_folder):
            for match in _OUTPUT_DIR.finditer(_text(file)):
                found.setdefault(Path(match["path"]), str(file))
        return {folder: file for folder, file in found.items() if folder not in (self._own, Path())}

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """First part of such a folder -> the recipe that writes into it."""
        first = {folder.parts[0]: by for folder, by in self.folders.items() if folder.parts}
        return {**dict.fromkeys(self._own.parts[:1], "this recipe"), **first}


def _recipes_in(folder: Path | None) -> list[Path]:
    try:
        found = [] if folder is None else [file for file in folder.iterdir() if file.suffix in (".yaml", ".yml")]
    except OSError:
        return []
    return sorted(found)[:MAX_RECIPES]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") if file.stat().st_size <= MAX_RECIPE_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _is_cached(key: str, name: str, revision: str | None) -> bool:
    return any(cached_file(name, file, revision=revision) for file in _CACHED.get(key, ("config.json",)))
