"""R1: every wrong recipe is refused with its lines, keys and reasons, all faults of a round at once.

`x.expected` beside `x.yaml` lists the findings in order, a line each: line, key and a part of the message, separated by
tabs; `-` where a finding has no line or no key.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from axo.errors import Finding, RecipeError
from axo.recipe.read import read_recipe

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "bad_recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_wrong_recipe_is_refused_with_exactly_the_expected_findings(path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    expected = [line.split("\t") for line in path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()]
    findings = caught.value.findings
    assert [(_line(finding), finding.key or "-") for finding in findings] == [(line, key) for line, key, _ in expected]
    for finding, (_, _, part) in zip(findings, expected, strict=True):
        assert part in finding.message
        assert finding.file == str(path)


def test_there_are_enough_wrong_recipes_and_each_says_what_is_expected() -> None:
    assert len(RECIPES) >= 25
    assert {path.stem for path in RECIPES} == {path.stem for path in FOLDER.glob("*.expected")}
    assert all(path.with_suffix(".expected").read_text(encoding="utf-8") for path in RECIPES)


def test_a_finding_is_printed_as_file_line_key_message_and_hint() -> None:
    path = FOLDER / "misspelt_words.yaml"
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    first = str(caught.value).splitlines()[:2]
    assert first[0].startswith(f"{path}:6: optimizer: found the text 'adamw_trch', expected one of ")
    assert first[1] == "  did you mean 'adamw_torch' or 'adamw_torch_fused'?"


def test_a_secret_is_never_printed() -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(FOLDER / "secrets.yaml")
    assert "AbCdEf" not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def _line(finding: Finding) -> str:
    return "-" if finding.line is None else str(finding.line)
