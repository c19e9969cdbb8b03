"""One golden loss curve for each shipped recipe: what it trains must not drift without somebody saying so.

`python tests/golden/test_golden.py` writes the curves anew; a commit that does so says why they changed."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from axo.model.tiny import make_tiny_model
from axo.recipe.read import read_recipe
from axo.workflows.train import train

GOLDEN = Path(__file__).parent
ROOT = GOLDEN.parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
STEPS = 6
TOLERANCE = 1e-3
"""Relative. Other processors sum in another order; six steps of a small model make no more of it than this."""


def curve_of(recipe: Path, folder: Path) -> list[float]:
    """Losses of the first steps of a shipped recipe on a small model, with one thread."""
    make_tiny_model(
        folder / "tiny",
        text=[ROOT / "recipes/data/quickstart_train.jsonl"],
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        seed=1,
    )
    overrides = [
        "--base-model", str(folder / "tiny"), "--output-dir", str(folder / "run"), "--max-steps", str(STEPS),
        "--dataset-prepared-path", str(folder / "prepared"), "--save-strategy", "no", "--set", "saves_per_epoch=",
        "--set", "evals_per_epoch=", "--set", "save_steps=", "--set", "eval_steps=", "--world-size", "1",
    ]  # fmt: skip
    loaded = read_recipe(recipe, overrides=overrides)
    train(loaded, fresh=False, show_plan=lambda plan: None, show=lambda line: None)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def golden_file(recipe: Path) -> Path:
    return GOLDEN / f"{recipe.stem}.json"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_losses_of_a_shipped_recipe_are_its_golden_curve(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    golden = json.loads(golden_file(recipe).read_text())
    assert len(golden) == STEPS
    np.testing.assert_allclose(curve_of(recipe, tmp_path), golden, rtol=TOLERANCE)


def test_every_golden_curve_belongs_to_a_shipped_recipe() -> None:
    assert RECIPES
    assert {path.stem for path in GOLDEN.glob("*.json")} == {recipe.stem for recipe in RECIPES}


if __name__ == "__main__":
    for each in RECIPES:
        with tempfile.TemporaryDirectory() as name:
            golden_file(each).write_text(json.dumps(curve_of(each, Path(name)), indent=1) + "\n")
        print(f"wrote {golden_file(each)}", file=sys.stderr)
