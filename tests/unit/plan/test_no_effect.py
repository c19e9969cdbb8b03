"""What is said of a key without effect is true of the Plan: with the key it is the same as without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest

from axo.plan.facts import DataFacts, Device, Facts, Hardware
from axo.plan.resolve import resolve
from axo.recipe.recipe import SECTIONS, recipe_from_flat
from axo.recipe.section import NoEffect, NotYet, Section, alternatives, mark, nested
from axo.recipe.support import assess

GPU = Device("H100", 80 * 2**30, (9, 0))
DATA = DataFacts(train_samples=640, train_tokens=6400, trained_tokens=3200, train_packs=100, eval_samples=64)
FACTS = Facts(Hardware(devices=(GPU, GPU), cpu_count=8), {"model_type": "llama"}, DATA)
DATASET = {"path": "a", "type": "chat_template"}
FULL: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [DATASET],
    "sequence_len": 64,
    "sample_packing": True,
    "val_set_size": 0.1,
    "gradient_checkpointing": True,
}
LORA = {**FULL, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
OF_A_TYPE: dict[Any, list[Any]] = {bool: [True, False], int: [1, 7], float: [0.5], str: ["cuda:0"]}
SPECIAL: dict[str, list[Any]] = {
    "device_map": ["auto", 0, {"": 0}],
    "flex_attn_compile_kwargs": [{"dynamic": False}],
    "gradient_checkpointing_kwargs": [{"use_reentrant": True}, {"use_reentrant": False}],
}
"""Values of keys that hold mappings."""


def idle_keys(section: type[Section], at: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of `section` without effect, each with every value."""
    for key, field in section.model_fields.items():
        no_effect, inner = mark(field, NoEffect), nested(field.annotation)
        if no_effect is not None:
            for value in no_effect.only or SPECIAL.get(key) or values(field.annotation):
                yield f"{at}{key}", value
        elif inner is not None and mark(field, NotYet) is None and key not in ("test_datasets", "pretraining_dataset"):
            yield from idle_keys(inner, f"{at}{key}.")


def values(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for choice in alternatives(annotation):
        if choice in OF_A_TYPE:
            found += OF_A_TYPE[choice]
        elif get_origin(choice) is list:
            found.append(values(get_args(choice)[0]))
        else:
            assert not isinstance(choice, type), f"no value of {choice} is known: name one in SPECIAL"
            found.append(choice)
    return found


ROWS = [row for section in SECTIONS.values() for row in idle_keys(section)]


def with_key(flat: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, *rest = key.split(".")
    if first == "datasets":
        return {**flat, "datasets": [{**DATASET, **with_key({}, rest[0], value)}]}
    return {**flat, first: with_key(flat.get(first) or {}, ".".join(rest), value) if rest else value}


def plan_of(flat: dict[str, Any], *, without: str) -> dict[str, Any]:
    """The Plan but for the line of one key."""
    plan = resolve(recipe_from_flat(flat), FACTS)
    lines = [one for one in plan.decisions if not one.key.startswith(without)]
    return {**dict(plan), "decisions": lines}


def test_the_table_holds_keys_of_every_depth() -> None:
    keys = {key for key, _ in ROWS}
    assert {"liger_rope", "datasets.input_format", "accelerator_config.non_blocking"} <= keys
    assert len(keys) > 60


FSDP: dict[str, Any] = {"fsdp_config": {"reshard_after_forward": True}}
"""Keys inside fsdp_config ask for FSDP with the block alone."""


@pytest.mark.parametrize("base", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(("key", "value"), ROWS, ids=[f"{key}-{value}" for key, value in ROWS])
def test_a_key_without_effect_leaves_the_plan_as_it_is(key: str, value: Any, base: dict[str, Any]) -> None:
    base = {**base, **FSDP} if key.startswith("fsdp_config.") else base
    flat = with_key(base, key, value)
    support = assess(flat)
    assert support.refusals == ()
    assert [at.replace("datasets.0.", "datasets.") for at in support.idle] == [key]
    assert plan_of(flat, without=key) == plan_of(base, without=key)
