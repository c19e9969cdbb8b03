"""Where a path of a recipe is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from axo.recipe import paths
from axo.recipe.paths import find, settle
from axo.recipe.read import read_recipe

MINIMAL = "base_model: some/model\nlearning_rate: 2e-5\ndatasets:\n  - path: rows.jsonl\n    type: alpaca\n"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory `work`, a recipe's folder `recipe` and an installed package `site/axo`."""
    for name in ("work", "recipe", "site/axo/recipes", "site/recipes"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(paths, "files", lambda _name: tmp_path / "site" / "axo")
    return tmp_path


def test_the_working_directory_comes_first_then_the_folder_of_the_recipe(places: Path) -> None:
    beside = places / "recipe" / "rows.jsonl"
    beside.touch()
    path, note = find("rows.jsonl", recipe_dir=places / "recipe")
    assert path == beside
    assert note is not None
    assert "beside the recipe" in note
    (places / "work" / "rows.jsonl").touch()
    assert find("rows.jsonl", recipe_dir=places / "recipe") == (Path("rows.jsonl"), None)


def test_a_shipped_file_is_found_inside_a_wheel_and_beside_a_checkout(places: Path) -> None:
    checkout = places / "site" / "recipes" / "only_checkout.yaml"
    for path in (checkout, places / "site" / "axo" / "recipes" / "a.yaml"):
        path.write_text(MINIMAL, encoding="utf-8")
    loaded = read_recipe("recipes/a.yaml")
    assert loaded.path == places / "site" / "axo" / "recipes" / "a.yaml"
    assert "shipped with axo" in loaded.notes[0]
    assert find("recipes/only_checkout.yaml") == (None, None)
    (places / "site" / "pyproject.toml").touch()
    assert find("recipes/only_checkout.yaml")[0] == checkout
    assert find("other/a.yaml") == (None, None)


def test_found_paths_are_rewritten_and_others_are_left_alone(places: Path) -> None:
    for name in ("rows.jsonl", "template.jinja", "base"):
        (places / "recipe" / name).touch()
    flat = {
        "base_model": "base",
        "tokenizer_config": "hub/name",
        "chat_template_jinja": "{{ messages }}",
        "output_dir": "base",
        "datasets": [
            {"path": "rows.jsonl", "type": "alpaca", "chat_template_jinja": "template.jinja"},
            {"path": "s3://bucket/rows.jsonl", "type": "base"},
        ],
    }
    folder = str(places / "recipe")
    settled, notes = settle(flat, recipe_dir=places / "recipe")
    assert settled == {
        **flat,
        "base_model": f"{folder}/base",
        "datasets": [
            {"path": f"{folder}/rows.jsonl", "type": "alpaca", "chat_template_jinja": f"{folder}/template.jinja"},
            {"path": "s3://bucket/rows.jsonl", "type": "base"},
        ],
    }
    assert [note.split(":")[0] for note in notes] == ["base_model", "datasets.0.path", "datasets.0.chat_template_jinja"]
    assert flat["base_model"] == "base"


def test_a_recipe_finds_its_data_beside_itself(places: Path) -> None:
    (places / "recipe" / "rows.jsonl").touch()
    (places / "recipe" / "a.yaml").write_text(MINIMAL, encoding="utf-8")
    loaded = read_recipe(Path("../recipe/a.yaml"))
    assert loaded.recipe.data.datasets[0].path == "../recipe/rows.jsonl"
    assert loaded.flat["datasets"][0]["path"] == "../recipe/rows.jsonl"


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000, "hub/name"])
def test_what_cannot_be_a_path_is_no_file(places: Path, path: str) -> None:
    settled, notes = settle({"base_model": path}, recipe_dir=places / "recipe")
    assert (settled, notes) == ({"base_model": path}, [])


def test_the_home_folder_is_written_out(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(places / "work"))
    (places / "work" / "rows.jsonl").touch()
    settled, _ = settle({"base_model": "~/rows.jsonl"}, recipe_dir=places / "recipe")
    assert settled == {"base_model": str(places / "work" / "rows.jsonl")}
