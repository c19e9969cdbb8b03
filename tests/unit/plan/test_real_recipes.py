"""Recipes that people have: the facts of public Axolotl recipes (tests/assets/real_recipes) are understood key by key.

Each file holds the keys and values of one recipe, a machine, and what is expected, worked out by hand from Axolotl's
documentation and source: for every key that the recipe gives what is done and why (`as_asked`: exactly that), for the
important unset ones too, lines of the summary, and what `axo train` refuses. `instead` replaces values that end the
reading, or that the model's config rules out (`refused_by_the_model`), so that the rest can be explained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.errors import Finding, RecipeError
from axo.plan.explain import Explained
from axo.plan.facts import Device, Facts, Hardware
from axo.recipe.read import read_recipe
from axo.workflows.explain import Explanation, explain_recipe
from axo.workflows.facts import model_config_of

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "real_recipes"
RECIPES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
every_recipe = pytest.mark.parametrize("facts", list(RECIPES.values()), ids=list(RECIPES))


@every_recipe
def test_every_given_key_is_explained_at_its_line(facts: dict[str, Any], tmp_path: Path) -> None:
    recipe, explained = _explained(facts, tmp_path)
    lines = _lines(recipe.read_text())
    places = {line.place for line in explained.keys}
    for key in _keys(facts["recipe"]):
        place = "command line" if key in facts["instead"] else f"{recipe}:{lines[key]}"
        assert place in places or _in_a_mapping(key, explained.keys), f"{key} is dropped silently"


@every_recipe
def test_every_given_key_does_what_axolotl_documents(facts: dict[str, Any], tmp_path: Path) -> None:
    _, explained = _explained(facts, tmp_path)
    given = {line.key: line for line in explained.keys if line.place is not None}
    expected = {key: (_word(_at(facts["recipe"], key)), "given", "as asked") for key in facts["as_asked"]}
    expected |= {key: tuple(value) for key, value in facts["given"].items()}
    assert set(given) - _replaced(facts) == set(expected) - _replaced(facts)
    for key in set(expected) - _replaced(facts):
        line, (effective, status, why) = given[key], expected[key]
        assert (_number(line.effective), line.status) == (_number(effective), status), key
        assert line.status == "given" or why in line.why, f"{key}: {line.why}"
        if key in facts["spelt"]:
            assert line.asked == facts["spelt"][key]


@every_recipe
def test_what_happens_unasked_is_shown(facts: dict[str, Any], tmp_path: Path) -> None:
    _, explained = _explained(facts, tmp_path)
    unset = {line.key: line for line in explained.keys if line.place is None}
    for key, (effective, why) in facts["unset"].items():
        assert key in unset, key
        assert unset[key].effective == effective and why in unset[key].why, unset[key]
        assert unset[key].asked == "unset"


@every_recipe
def test_the_summary_is_right(facts: dict[str, Any], tmp_path: Path) -> None:
    _, explained = _explained(facts, tmp_path)
    lines = dict(reversed(explained.run.lines))  # of several of one name the first
    assert {name: lines.get(name) for name in facts["summary"]} == facts["summary"]


@every_recipe
def test_a_run_is_refused_by_every_key_that_axo_cannot_run_and_by_no_other(
    facts: dict[str, Any], tmp_path: Path
) -> None:
    recipe = _write(facts, tmp_path)
    lines = _lines(recipe.read_text())
    found = {finding.key: finding for finding in _refusals(recipe)}
    assert set(found) == set(facts["refused"])
    for key, message in facts["refused"].items():
        assert message in found[key].message
        assert found[key].line == lines[key], key


@pytest.mark.parametrize(
    "facts", [pytest.param(facts, id=name) for name, facts in RECIPES.items() if "refused_by_the_model" in facts]
)
def test_what_does_not_fit_the_model_is_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        _explained({**facts, "instead": {}}, tmp_path)
    found = {finding.key: finding.message for finding in caught.value.findings}
    assert found == facts["refused_by_the_model"]


def test_weights_of_few_bits_have_no_fallback(tmp_path: Path) -> None:
    facts = RECIPES["qlora"]
    with pytest.raises(RecipeError, match="load_in_4bit: needs the package bitsandbytes, not installed here"):
        _explained({**facts, "hardware": {**facts["hardware"], "packages": []}}, tmp_path)


def _explained(facts: dict[str, Any], folder: Path) -> tuple[Path, Explanation]:
    recipe = _write(facts, folder)
    overrides = [f"--set={key}={value}" for key, value in facts["instead"].items()]
    loaded = read_recipe(recipe, overrides=overrides, allow_not_yet=True)
    stored = facts["model_config"]
    config = model_config_of(loaded.recipe, stored)
    return recipe, explain_recipe(loaded, Facts(_hardware(facts["hardware"]), config, stored_config=stored))


def _hardware(facts: dict[str, Any]) -> Hardware:
    capability = tuple(facts.get("capability", ()))
    device = Device("NVIDIA H100 80GB HBM3", 80 * 2**30, capability)
    packages = dict.fromkeys(facts["packages"], "2.8.0")
    return Hardware(devices=(device,) * facts["gpus"], cpu_count=16, packages=packages)


def _write(facts: dict[str, Any], folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(facts["recipe"], sort_keys=False, width=10_000))
    return path


def _refusals(recipe: Path) -> tuple[Finding, ...]:
    try:
        read_recipe(recipe)
    except RecipeError as error:
        return error.findings
    return ()


def _replaced(facts: dict[str, Any]) -> set[str]:
    return set(facts["instead"])


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of everything that holds no further keys."""
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{dotted}.")
        elif isinstance(value, list) and value and (isinstance(value[0], dict) or key == "plugins"):
            for index, item in enumerate(value):
                yield from _keys(item, f"{dotted}.{index}.") if isinstance(item, dict) else [f"{dotted}.{index}"]
        else:
            yield dotted


def _lines(text: str) -> dict[str, int]:
    """Dotted key -> line, counted from 1, as PyYAML finds it."""
    return dict(_places(yaml.compose(text), ""))


def _places(node: Any, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
            yield from _places(value, f"{prefix}{key.value}.")
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield f"{prefix}{index}", item.start_mark.line + 1
            yield from _places(item, f"{prefix}{index}.")


def _in_a_mapping(key: str, lines: Sequence[Explained]) -> bool:
    """Whether a key of a free mapping is shown with the whole of it."""
    outer, _, name = key.rpartition(".")
    shown = [line.asked for line in lines if line.key == outer or line.asked.startswith(f"{outer}: ")]
    return any(f"{name}: " in asked for asked in shown)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _word(value: Any) -> str:
    """A value as the explanation should show it, where it needs no more than YAML's own spelling."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_word(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_word(item) for item in value)
    return str(value)


def _number(text: str) -> str | float:
    """One number may be written in several ways."""
    try:
        return float(text)
    except ValueError:
        return text
