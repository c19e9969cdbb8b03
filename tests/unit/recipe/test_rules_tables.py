"""Every rule across keys: a recipe that breaks it and one that nearly does, from tests/assets/bad_recipes/rules.

An entry there gives the keys beside the minimum (`breaks`, and blocks of keys by name in `with`), the keys of the
findings (`at`), a part of what they say (`says`), and what is changed to make it right (`passes`, null leaves a key
out)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from axo.errors import RecipeError
from axo.recipe.recipe import SECTIONS, owner_of, recipe_from_flat
from axo.recipe.rules import LAWS, check, lacks, remarks
from axo.recipe.section import Section, nested
from axo.recipe.table_rules import Keys, Law, Only

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "bad_recipes" / "rules"
MINIMAL: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [{"path": "a", "type": "alpaca"}],
}
LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
BLOCKS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "qlora": {**LORA, "adapter": "qlora", "load_in_4bit": True},
    "eval": {"val_set_size": 0.1},
    "grpo": {"rl": "grpo", "trl": {"reward_funcs": ["rewards.length"]}},
    "fsdp": {"fsdp_config": {"reshard_after_forward": True}},
    "zero": {"deepspeed": "deepspeed_configs/zero2.json"},
}
CASES: dict[str, dict[str, Any]] = {
    f"{path.stem}-{number}-{case['at'][0]}": case
    for path in sorted(FOLDER.glob("*.yaml"))
    for number, case in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), 1)
}


def broken(case: dict[str, Any]) -> dict[str, Any]:
    return _joined(MINIMAL, *(BLOCKS[name] for name in case.get("with", ())), case["breaks"])


def mended(case: dict[str, Any]) -> dict[str, Any]:
    return _joined(broken(case), *(BLOCKS[name] for name in case.get("passes_with", ())), case["passes"])


def _joined(*parts: dict[str, Any]) -> dict[str, Any]:
    keys = {key: value for part in parts for key, value in part.items()}
    return {key: value for key, value in keys.items() if value is not None or key == "datasets"}


def recipe(flat: dict[str, Any]) -> Any:
    given = {key: value for key, value in flat.items() if value is not None}
    if given.get("datasets") == MINIMAL["datasets"] and (given.get("rl") or given.get("reward_model")):
        given["datasets"] = [{"path": "a"}]
    elif given.get("datasets") == MINIMAL["datasets"] and given.get("process_reward_model"):
        given["datasets"] = [{"path": "a", "type": "stepwise_supervised"}]
    return recipe_from_flat(given)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_recipe_that_breaks_a_rule_is_refused_and_one_that_nearly_does_passes(case: dict[str, Any]) -> None:
    built = recipe(broken(case))
    findings = [*check(built), *(finding for finding in lacks(built) if "address" in finding.message)]
    assert sorted({finding.key for finding in findings}) == sorted(case["at"])
    assert case["says"] in " | ".join(finding.message for finding in findings)
    assert all(finding.hint for finding in findings)
    assert check(recipe(mended(case))) == []


def test_every_law_of_the_tables_is_broken_by_a_case() -> None:
    recipes = [Keys(recipe(broken(case))) for case in CASES.values()]
    assert [law for law in LAWS if not any(list(law.broken(keys)) for keys in recipes)] == []


def test_the_tables_name_only_keys_that_there_are() -> None:
    assert sorted(key for law in LAWS for key in _named(law) if not _exists(key)) == []


def _named(law: Law) -> list[str]:
    if isinstance(law, Only):
        return [*law.keys, *(one.key for one in law.where)]
    second = law.second if isinstance(law.second, tuple) else (law.second,)
    return [law.first.key, *(one.key for one in second)]


def _exists(key: str) -> bool:
    first, *inner = key.split(".")
    section: type[Section] | None = SECTIONS.get(owner_of(first) or "")
    for part in (first, *inner):
        if section is None or part not in section.model_fields:
            return False
        section = nested(section.model_fields[part].annotation)
    return True


settings_of_cases = st.lists(st.sampled_from([broken(case) for case in CASES.values()]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(settings_of_cases)
def test_no_combination_of_keys_makes_a_rule_fail(parts: list[dict[str, Any]]) -> None:
    _rules_only_report(parts)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(settings_of_cases)
def test_no_combination_of_keys_makes_a_rule_fail_at_length(parts: list[dict[str, Any]]) -> None:
    _rules_only_report(parts)


def _rules_only_report(parts: list[dict[str, Any]]) -> None:
    try:
        built = recipe(_joined(*parts))
    except RecipeError:
        return  # pretraining_dataset and no datasets, and the other way round
    for finding in check(built):
        assert finding.key
        assert finding.message
        assert finding.hint
        assert owner_of(finding.key.partition(".")[0]) is not None
    assert all(remarks(built))
