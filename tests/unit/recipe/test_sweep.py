"""Sweep files: the combinations and their numbers are Axolotl's, and what is wrong is refused with its line."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from axo.errors import Finding, RecipeError
from axo.recipe.find import RecipeText
from axo.recipe.override import COMMAND_LINE, Override, parse_overrides
from axo.recipe.read import resolve_recipe
from axo.recipe.sweep import Combination, check_not_swept, describe, read_sweep, told_once

RECIPE = (
    "base_model: m\nadapter: lora\nlora_alpha: 8\nlora_target_linear: true\nlearning_rate: 1e-3\n"
    "datasets: [{path: d, type: alpaca}]\n"
)


def sweep(text: str) -> list[Combination]:
    return read_sweep(text_of(text, "sweep.yaml"))


def text_of(text: str, name: str) -> RecipeText:
    return RecipeText(text, name, Path(name), Path())


def settings(text: str) -> list[dict[str, Any]]:
    return [dict(run.settings) for run in sweep(text)]


def faults(text: str) -> list[Finding]:
    with pytest.raises(RecipeError) as caught:
        sweep(text)
    assert all(finding.file == "sweep.yaml" for finding in caught.value.findings)
    return list(caught.value.findings)


def as_axolotl_orders(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The order that Axolotl documents: every list with every other one, the pairs innermost, shuffled with seed 42."""
    names = [name for name in sweep if name != "_"]
    runs: list[dict[str, Any]] = []
    for values in itertools.product(*(sweep[name] for name in names)):
        for together in sweep.get("_") or [{}]:
            runs.append(dict(zip(names, values, strict=True)) | together)
    random.seed(42)
    random.shuffle(runs)
    return runs


# Order and numbers


def test_the_combinations_of_two_lists_in_the_order_that_python_shuffles_them() -> None:
    """Worked by hand. The product is 1x 1y 2x 2y 4x 4y; random.Random(42) draws 5, 0, 0, 2, 1 below 6, 5, 4, 3, 2, and
    shuffle swaps the places 5-5, 4-0, 3-0, 2-2, 1-1: 4x 1y 2x 2y 1x 4y, then 2y 1y 2x 4x 1x 4y."""
    assert settings("a: [1, 2, 4]\nb: [x, y]") == [
        {"a": 2, "b": "y"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"},
        {"a": 4, "b": "x"}, {"a": 1, "b": "x"}, {"a": 4, "b": "y"},
    ]  # fmt: skip


def test_runs_are_numbered_from_one_with_four_digits() -> None:
    assert [(run.number, run.name) for run in sweep("a: [1, 2]")] == [(1, "sweep0001"), (2, "sweep0002")]


DOCUMENTED = """
_:
  # these go together
  - load_in_8bit: false
    load_in_4bit: false
    adapter: lora
  - load_in_8bit: true
    load_in_4bit: false
    adapter: lora
learning_rate: [0.0003, 0.0006]
lora_r:
  - 16
  - 32
lora_alpha:
  - 16
  - 32
  - 64
"""


def test_the_example_of_the_documentation_gives_the_same_runs_in_the_same_order() -> None:
    assert len(settings(DOCUMENTED)) == 24
    assert settings(DOCUMENTED) == as_axolotl_orders(yaml.safe_load(DOCUMENTED))


NAMES = st.sampled_from(["a", "b", "c", "d.e"])
VALUES = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
TOGETHER = st.lists(st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 9), min_size=1), max_size=3)


@given(lists=st.dictionaries(NAMES, VALUES, min_size=1), together=TOGETHER, at_the_front=st.booleans())
def test_every_sweep_has_the_order_and_the_numbers_of_axolotl(
    lists: dict[str, Any], together: list[dict[str, int]], at_the_front: bool
) -> None:
    together = [one for index, one in enumerate(together) if one not in together[:index]]
    both = {"_": together, **lists} if at_the_front else {**lists, "_": together}
    assert settings(yaml.safe_dump(both, sort_keys=False)) == as_axolotl_orders(both)


def test_a_value_that_is_blank_or_null_unsets_its_key() -> None:
    assert {None, 4} == {one["lora_r"] for one in settings("lora_r: [null, 4]")}
    together = settings("_:\n - {lora_r: , trl: {beta: }, lora_alpha: 3}\n - trl.beta:\n   special_tokens: {a: b}\n")
    assert {"lora_r": None, "trl": {}, "lora_alpha": 3} in together
    assert {"trl.beta": None, "special_tokens": {"a": "b"}} in together
    loaded = resolve_recipe(
        text_of(RECIPE + "lora_r: 4\nseed: 9\n", "r.yaml"),
        asked=next(run.overrides for run in sweep("_: [{seed: , lora_r: 2}, {lora_r: 3}]") if len(run.settings) == 2),
    )
    assert "seed" not in loaded.flat and loaded.recipe.adapters.lora_r in (2, 3)


def test_pairs_that_are_blank_or_empty_are_none() -> None:
    assert settings("_:\na: [1]") == settings("_: []\na: [1]") == [{"a": 1}]


def test_values_may_be_lists_and_mappings_and_do_not_share_what_they_hold() -> None:
    runs = sweep("datasets: [[{path: a}], [{path: b}]]\nseed: [1, 2]")
    first = runs[0].overrides[0].value
    first.append("more")
    assert all(len(run.settings["datasets"]) == 1 for run in runs)


def test_settings_are_told_in_one_line() -> None:
    assert describe({"learning_rate": 1e-4, "lora_r": None}) == "learning_rate 0.0001, lora_r unset"


# What is wrong with the file


@pytest.mark.parametrize(
    ("text", "key", "line", "message"),
    [
        ("\nseed: 1", "seed", 2, "found a single value, expected a list"),
        ("seed: abc", "seed", 1, "found a single value, expected a list"),
        ("a: [1]\nseed: {x: 1}", "seed", 2, "found a single value, expected a list"),
        ("a: [1]\nseed:", "seed", 2, "no value is given"),
        ("a: [1]\nseed: []", "seed", 2, "the list is empty"),
        ("a: [1]\nseed: [1,\n 2,\n 1]", "seed", 4, "the same is given twice"),
        ("a: [1]\n_: [{b: 1},\n {b: 1}]", "b", 3, "the same is given twice"),
        ("a: [1]\na: [2]", "a", 2, "given twice, on lines 1 and 2"),
        ("a: [1]\n_:\n - b: 1\n   a: 2", "a", 4, "is in the list of a already"),
        ("trl: [{beta: 1}]\ntrl.beta: [1]", "trl.beta", 2, "is in the list of trl already"),
        ("_:\n - trl.beta: 1\n   trl: {}", "trl", 3, "is set by trl.beta already"),
        ("_: {a: 1}", "_.0", 1, "expected a list of mappings"),
        ("_:\n - a: 1\n - 2", "_.1", 3, "expected a list of mappings"),
        ("a: [1]\noutput_dir: [x, y]", "output_dir", 2, "a folder of its own"),
        ("a: [1]\n_: [{output_dir: x}]", "output_dir", 2, "a folder of its own"),
        ("_: []", "", None, "nothing to choose from"),
        ("", "", None, "no mapping of keys"),
        ("# nothing", "", None, "no mapping of keys"),
        ("- a: [1]", "", None, "no mapping of keys"),
        ("a: [1\n", "", 2, "broken YAML"),
    ],
)  # fmt: skip
def test_a_fault_of_the_file_is_told_with_its_line(text: str, key: str, line: int | None, message: str) -> None:
    (found,) = faults(text)
    assert message in found.message
    assert (found.key, found.line) == (key, line)


def test_all_faults_come_together() -> None:
    assert [found.line for found in faults("a: 1\nb: []\nc:\nd: [1, 1]")] == [1, 2, 3, 4]


def test_more_runs_than_folders_can_be_numbered_are_refused_before_they_are_listed() -> None:
    text = "\n".join(f"a{name}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" for name in range(12))
    (found,) = faults(text)
    assert "1000000000000 combinations, more than 9999" in found.message


# What is wrong with a combination


def read_all(text: str, recipe: str = RECIPE) -> list[Finding]:
    """The findings of all combinations, as `axo train --sweep` tells them."""
    found: list[tuple[Combination, list[Finding]]] = []
    for run in sweep(text):
        try:
            resolve_recipe(text_of(recipe, "r.yaml"), asked=run.overrides)
            found.append((run, []))
        except RecipeError as error:
            found.append((run, run.locate(error.findings)))
    return told_once(found)


def test_an_unknown_key_is_told_once_with_its_line_in_the_sweep_file() -> None:
    (found,) = read_all("lora_r: [4, 8]\nlerning_rate: [1, 2, 3]")
    assert (found.file, found.line, found.key) == ("sweep.yaml", 2, "lerning_rate")
    assert found.message == "unknown key" and found.hint == "did you mean 'learning_rate'?"


def test_a_wrong_value_is_told_with_its_line_and_the_runs_that_have_it() -> None:
    text = "seed: [1, 2]\nlora_r:\n  - 8\n  - 0\n"
    numbers = [run.name for run in sweep(text) if run.settings["lora_r"] == 0]
    (found,) = read_all(text)
    assert (found.file, found.line, found.key) == ("sweep.yaml", 4, "lora_r")
    assert found.message.endswith(f"(in {', '.join(numbers)})")


def test_a_run_alone_is_named_with_its_settings() -> None:
    text = "lora_r: [4]\nseed: [1, x]"
    (run,) = [run for run in sweep(text) if run.settings["seed"] == "x"]
    (found,) = read_all(text)
    assert found.message.endswith(f"(in {run.name}: lora_r 4, seed x)")


def test_a_fault_in_the_recipe_itself_keeps_its_place_there_and_names_no_run() -> None:
    (found,) = read_all("lora_r: [4, 8]", RECIPE + "lerning_rate: 1\n")
    assert (found.file, found.line, found.message) == ("r.yaml", 7, "unknown key")


def test_a_fault_inside_a_value_is_placed_at_its_line() -> None:
    text = "lora_r: [4]\n_:\n  - datasets:\n      - path: a\n        typ: alpaca\n"
    found = next(one for one in read_all(text) if one.key == "datasets.0.typ")
    assert (found.file, found.line) == ("sweep.yaml", 5)
    text = "lora_r: [4]\ndatasets.0.type:\n  - alpaca\n  - alpacka\n"
    (found,) = read_all(text)
    assert (found.file, found.line, found.key) == ("sweep.yaml", 4, "datasets.0.type")


def test_dotted_keys_reach_into_lists_and_mappings() -> None:
    (run,) = sweep("datasets.0.path: [other]\nspecial_tokens.pad_token: [<p>]\nlora_r: [2]")
    flat = resolve_recipe(text_of(RECIPE, "r.yaml"), asked=run.overrides).flat
    assert flat["datasets"] == [{"path": "other", "type": "alpaca"}]
    assert flat["special_tokens"] == {"pad_token": "<p>"}


# The command line beside a sweep


def test_other_keys_of_the_command_line_hold_for_all_runs() -> None:
    check_not_swept(parse_overrides(["--seed", "3", "--set", "datasets.1.path=b"]), sweep("datasets.0.path: [a, b]"))


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--seed=1", "seed: [2, 3]"),
        ("--seed=1", "_: [{lora_r: 1}, {seed: 2}]"),
        ("--set=datasets=[]", "datasets.0.path: [a, b]"),
        ("--set=datasets.0.path=c", "datasets: [[{path: a}], [{path: b}]]"),
        ("--evaluation-strategy=no", "eval_strategy: [steps, epoch]"),
        ("--eval-strategy=no", "evaluation_strategy: [steps, epoch]"),
    ],
)
def test_a_swept_key_cannot_be_given_on_the_command_line_too(word: str, text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_not_swept(parse_overrides([word]), sweep(text))
    (found,) = caught.value.findings
    assert found.file == COMMAND_LINE and found.message == "sweep.yaml sweeps over it"


def test_two_switches_of_one_key_are_set_at_once() -> None:
    both = [Override("flash_attention", False), Override("sdp_attention", True)]
    for asked in (both, both[::-1]):
        loaded = resolve_recipe(text_of(RECIPE + "lora_r: 4\nxformers_attention: true\n", "r.yaml"), asked=asked)
        assert loaded.flat["attn_implementation"] == "sdpa"
