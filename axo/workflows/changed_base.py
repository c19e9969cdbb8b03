"""A base model's folder as the recipe trains it: with the entries of its config that the recipe replaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from axo.plan.facts import read_model_config
from axo.recipe.recipe import Recipe
from axo.workflows.facts import model_config_of


@contextmanager
def base_as_trained(recipe: Recipe, base: Path) -> Iterator[Path]:
    """`base` itself where the recipe changes nothing of its config; else a folder of links to its files, with a
    config.json of its own, while the context lasts."""
    stored = read_model_config(str(base))
    config = model_config_of(recipe, stored)
    if config is None or config is stored:
        yield base
        return
    with TemporaryDirectory(prefix="axo-base-") as folder:
        view = Path(folder)
        for path in base.iterdir():
            (view / path.name).symlink_to(path.resolve())
        (view / "config.json").unlink()
        (view / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        yield view
