"""Where a model is: a folder, the hub, what another recipe writes, or a path that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import HFValidationError, validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from axo.errors import RecipeError
from axo.plan.places import can_be_hub_name, find_places, refuse_later
from axo.recipe.recipe import Recipe, recipe_from_flat


def recipe(base_model: str, **keys: Any) -> Recipe:
    datasets = [{"path": "z/w", "type": "alpaca"}]
    flat = {"base_model": base_model, "datasets": datasets, "learning_rate": 1e-3, "micro_batch_size": 1, **keys}
    return recipe_from_flat(flat)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_needs_no_word(here: Path) -> None:
    (here / "models" / "mine" / "deep").mkdir(parents=True)
    for name in ("models", "models/mine", "./models/mine/deep", str(here / "models"), "models/"):
        assert find_places(recipe(name), recipe_folder=here) == {}


@pytest.mark.parametrize(
    "name", ["./mine", "../mine", "/no/such", "~/no-such", "a/b/c", "mine/", "a\\b", "a b", "x--y"]
)
@pytest.mark.parametrize("key", ["base_model", "base_model_config", "tokenizer_config", "lora_model_dir"])
def test_what_is_no_folder_and_can_be_no_hub_name_is_refused_under_its_key(here: Path, name: str, key: str) -> None:
    (here / "base").mkdir()
    with pytest.raises(RecipeError) as caught:
        find_places(recipe("base", **{key: name}) if key != "base_model" else recipe(name), recipe_folder=None)
    assert [(finding.key, finding.message) for finding in caught.value.findings] == [
        (key, f"there is no folder {name!r}")
    ]


def test_a_file_is_no_model(here: Path) -> None:
    (here / "model.gguf").write_text("x")
    with pytest.raises(RecipeError, match=r"base_model: 'model.gguf' is a file, expected the folder of a model"):
        find_places(recipe("model.gguf"), recipe_folder=None)


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-0.6B", "a.b/c_d"])
def test_a_hub_name_will_be_fetched(name: str) -> None:
    place = find_places(recipe(name), recipe_folder=None)["base_model"]
    assert (place.kind, place.why) == ("hub", "not on this machine: fetched from the hub")


def test_a_hub_name_whose_owner_is_a_folder_here_says_what_is_not_in_it(here: Path) -> None:
    (here / "acme" / "one").mkdir(parents=True)
    place = find_places(recipe("acme/two"), recipe_folder=None)["base_model"]
    assert place.kind == "hub"
    assert "the folder acme is here and has no two; fetched from the hub" in place.why


@pytest.mark.parametrize("written", ["work/base", "'work/base'   # the base", '"./work/base"', "work/base/"])
@pytest.mark.parametrize("name", ["work/base", "./work/base", "work/base/merged"])
def test_what_a_recipe_beside_it_writes_comes_later(here: Path, written: str, name: str) -> None:
    (here / "first.yaml").write_text(f"base_model: x/y\noutput_dir: {written}\n")
    places = find_places(recipe(name, output_dir="work/lora"), recipe_folder=here)
    assert places["base_model"].kind == "later"
    with pytest.raises(
        RecipeError, match=r"base_model: there is no folder '.*'\n  .*first.yaml writes work/base: train"
    ):
        refuse_later(places)


def test_a_hub_name_below_where_this_recipe_writes_says_so(here: Path) -> None:
    place = find_places(recipe("work/tiny", output_dir="work/base"), recipe_folder=here)["base_model"]
    assert place.kind == "hub"
    assert "there is no folder work/tiny, though this recipe writes into work;" in place.why
    refuse_later({"base_model": place})


def test_its_own_output_does_not_make_a_recipe_wait_for_itself(here: Path) -> None:
    (here / "own.yaml").write_text("output_dir: work/out\n")
    assert find_places(recipe("work/out", output_dir="work/out"), recipe_folder=here)["base_model"].kind == "hub"


def test_recipes_that_cannot_be_read_are_passed_over(here: Path) -> None:
    (here / "bytes.yaml").write_bytes(b"\xff\xfe")
    (here / "folder.yaml").mkdir()
    assert find_places(recipe("x/y"), recipe_folder=here)["base_model"].kind == "hub"
    assert find_places(recipe("x/y"), recipe_folder=here / "nowhere")["base_model"].kind == "hub"


def test_neighbours_are_read_only_where_a_model_is_not_on_this_machine(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "mine").mkdir()
    (here / "first.yaml").write_text("output_dir: work/base\n")
    read: list[Path] = []
    monkeypatch.setattr(Path, "read_text", lambda self, **_: read.append(self) or "")
    find_places(recipe("mine"), recipe_folder=here)
    assert read == []
    find_places(recipe("x/y"), recipe_folder=here)
    assert read == [here / "first.yaml"]


def test_large_and_late_neighbours_are_passed_over(here: Path) -> None:
    (here / "a.yaml").write_text("output_dir: work/large\n" + "#" * 64 * 2**10)
    (here / "b.yaml").write_text("output_dir: work/small\n")
    for number in range(49):
        (here / f"c{number:02}.yaml").write_text(f"output_dir: work/{number}\n")
    kinds = {name: find_places(recipe(f"work/{name}"), recipe_folder=here)["base_model"].kind
             for name in ("large", "small", "47", "48")}  # fmt: skip
    # a, b and c00 to c47 are fifty files
    assert kinds == {"large": "hub", "small": "later", "47": "later", "48": "hub"}


@given(st.text(st.sampled_from("aB9-_./ é\\~"), min_size=1, max_size=12) | st.just("a" * 97) | st.just("x.git"))
def test_hub_names_are_those_of_huggingface_hub(name: str) -> None:
    try:
        validate_repo_id(name)
        valid = True
    except HFValidationError:
        valid = False
    assert can_be_hub_name(name) == valid
