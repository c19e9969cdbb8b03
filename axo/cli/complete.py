"""What the shell completes: recipe files, recipe keys as options, and the words that a key takes."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import expanduser
from pathlib import Path

RECIPES = (".yaml", ".yml")


def recipe_files(incomplete: str) -> list[str]:
    """YAML files and folders that begin so; a folder that is alone is entered, so that no blank is put behind it.

    [] where there is no recipe: then the shell completes any file."""
    folder, _, start = incomplete.rpartition("/")
    found = sorted(_entries(f"{folder}/" if "/" in incomplete else "", start))
    if len(found) == 1 and found[0].endswith("/"):
        return recipe_files(found[0])
    return found


def recipe_keys(incomplete: str) -> Iterator[tuple[str, str]]:
    """(option, help) of each recipe key that begins so, with `-` or `_` as it was begun; `--no-` for switches."""
    from axo.recipe.recipe import SECTIONS, is_switch

    negative = incomplete.startswith(("--no-", "--no_"))
    mark = "_" if "_" in incomplete else "-"
    wanted = incomplete.removeprefix("--").replace("-", "_")
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            for word in (key, f"no_{key}") if negative and is_switch(key) else (key,):
                if word.startswith(wanted):
                    yield f"--{word.replace('_', mark)}", f"recipe key ({name})"


def words_of(option: str, incomplete: str) -> list[str]:
    """The words that a recipe key takes and that begin so; [] for one that takes anything else."""
    from axo.recipe.recipe import SECTIONS, owner_of
    from axo.recipe.section import alternatives

    key = option.removeprefix("--").replace("-", "_")
    owner = owner_of(key)
    if owner is None:
        return []
    choices = alternatives(SECTIONS[owner].model_fields[key].annotation)
    words = [choice for choice in choices if isinstance(choice, str)]
    words += ["true", "false"] if bool in choices else []
    return [word for word in words if word.startswith(incomplete)]


def _entries(folder: str, start: str) -> Iterator[str]:
    try:
        entries = list(Path(expanduser(folder or ".")).iterdir())
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        if entry.is_dir():
            if any(item.suffix in RECIPES or item.is_dir() for item in _items(entry)):
                yield f"{folder}{entry.name}/"
        elif entry.suffix in RECIPES:
            yield f"{folder}{entry.name}"


def _items(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
