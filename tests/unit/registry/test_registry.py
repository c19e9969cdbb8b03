"""Names to things, and the nearest name for a misspelt one."""

from __future__ import annotations

import pytest

from axo.registry.registry import Registry, did_you_mean
from axo.registry.tables import DATASET_FORMATS, OPTIMIZERS


def test_a_name_is_imported_on_first_use() -> None:
    registry = Registry("thing", {"pi": "math:pi", "broken": "no.such.module:x"})
    assert registry.load("pi") == 3.141592653589793
    assert list(registry) == ["pi", "broken"]
    assert len(registry) == 2
    assert registry["pi"] == "math:pi"
    with pytest.raises(ModuleNotFoundError):
        registry.load("broken")


def test_an_unknown_name_is_a_mistake_of_the_program() -> None:
    with pytest.raises(AssertionError, match="unknown thing: 'e'"):
        Registry("thing", {"pi": "math:pi"}).load("e")


def test_targets_are_written_as_module_and_attribute() -> None:
    for registry in (DATASET_FORMATS, OPTIMIZERS):
        assert all(target.startswith("axo.") and target.count(":") == 1 for target in registry.values())


@pytest.mark.parametrize(
    ("name", "answer"),
    [("learning_rat", "did you mean 'learning_rate'?"), ("lora", "did you mean 'lora_r'?"), ("xyz", None), ("", None)],
)
def test_the_nearest_name_is_suggested(name: str, answer: str | None) -> None:
    assert did_you_mean(name, ["learning_rate", "lora_r", "seed"]) == answer
