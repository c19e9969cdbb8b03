"""Rotary positions, other entries of the config and arguments of loading, as a recipe writes them."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import Finding
from axo.recipe.model import ModelSection
from axo.recipe.recipe import recipe_from_flat
from axo.recipe.rope_rules import asked_rope
from axo.recipe.rules import check

YARN = {"rope_type": "yarn", "factor": 4.0}
LISTS = {"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 3]}
LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def findings(**keys: Any) -> list[Finding]:
    flat = {"base_model": "x/y", "datasets": [{"path": "z/w", "type": "alpaca"}], "learning_rate": 1e-3}
    return check(recipe_from_flat({**flat, **keys}))


def overrides(**entries: Any) -> dict[str, Any]:
    return {"overrides_of_model_config": entries}


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_scaling": None},
        {"rope_scaling": {}},
        {"rope_scaling": YARN},
        {"rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_scaling": {"rope_type": "default"}},
        {"rope_scaling": LISTS},
        {"rope_scaling": {**LISTS, "rope_type": "su"}},
        {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8192, "rope_theta": 5e5}},
        overrides(rope_parameters={**YARN, "attention_factor": None, "beta_fast": 32, "truncate": False}),
        overrides(rope_parameters={"full_attention": YARN, "sliding_attention": None}),
        overrides(rope_theta=1e6, sliding_window=None, output_router_logits=True),
        {"model_kwargs": {"experts_implementation": "eager", "subfolder": "a"}},
    ],
)
def test_what_can_be_asked_for(keys: dict[str, Any]) -> None:
    assert findings(**keys) == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"rope_scaling": {"factor": 2}}, "has no rope_type"),
        ({"rope_scaling": {"rope_type": "yarm", "factor": 2}}, "did you mean 'yarn'"),
        ({"rope_scaling": {"rope_type": 3, "factor": 2}}, "rope_type is 3"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type linear needs factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "factor is 0.5, expected a number from 1"),
        ({"rope_scaling": {"rope_type": "linear", "factor": True}}, "factor is True"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2, "beta_fast": 3}}, "beta_fast is no entry of rope_type"),
        ({"rope_scaling": {**YARN, "beta_fats": 3}}, "did you mean 'beta_fast'"),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 0.5}}, "expected a number of tokens"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "rope_type longrope needs long_factor"),
        ({"rope_scaling": {**LISTS, "short_factor": 1.0}}, "short_factor is no list of numbers above 0"),
        ({"rope_scaling": {**LISTS, "long_factor": [1.0, "2"]}}, "long_factor is no list of numbers above 0"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 0.5}}, "expected more than low_freq_factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "Llama 3.1 has low_freq_factor: 1.0"),
        ({"rope_scaling": {**YARN, "rope_theta": -1}}, "rope_theta is -1, expected a number above 0"),
        ({"rope_scaling": YARN, **overrides(rope_parameters=YARN)}, "rotary positions are described here and in"),
        (overrides(rope_parameters=YARN, rope_scaling=YARN), "rotary positions are described here and in"),
        (overrides(rope_parameters={"full_attention": {"factor": 2}}), "has no rope_type"),
        (overrides(rope_parameters={**YARN, "rope_theta": 2.0}, rope_theta=3.0), "rope_theta stands beside it too"),
        (overrides(rope_theta="much"), "rope_theta is 'much'"),
        (overrides(dtype="bfloat16"), "the precision keys say it"),
        (overrides(attn_implementation="eager"), "attn_implementation says it"),
        (overrides(quantization_config={}), "load_in_4bit"),
        (overrides(vocab_size=9), "the tokenizer decides"),
        (overrides(model_type="llama"), "decides which code is run"),
        ({"model_kwargs": {"device_map": "auto"}}, "device_map is set by axo: the Plan decides where tensors are"),
        ({"model_kwargs": {"torch_dtype": "auto"}}, "the precision keys say it"),
        ({"model_kwargs": {"token": "t"}}, "HF_TOKEN"),
        ({"model_kwargs": {"subfolder": "a"}, "reinit_weights": True}, "cannot go with"),
    ],
)
def test_what_is_wrong_is_said_once_with_what_to_do(keys: dict[str, Any], says: str) -> None:
    (finding,) = findings(**keys)
    assert says in f"{finding.message}; {finding.hint}"
    assert finding.key in ("rope_scaling", "overrides_of_model_config", "model_kwargs", "reinit_weights")


@pytest.mark.parametrize(
    ("keys", "key", "values"),
    [
        ({"rope_scaling": {"type": "su", "factor": None}}, "rope_scaling", {"rope_type": "longrope"}),
        (overrides(rope_scaling={"type": "linear", "factor": 2}), None, {"rope_type": "linear", "factor": 2}),
        (overrides(rope_theta=1e6), None, {"rope_theta": 1e6}),
        (overrides(rope_parameters=YARN, rope_theta=1e6), None, {**YARN, "rope_theta": 1e6}),
        (
            overrides(rope_parameters={"full_attention": {"type": "linear", "factor": 2}}),
            None,
            {"full_attention": {"rope_type": "linear", "factor": 2}},
        ),
    ],
)
def test_older_spellings_become_todays(keys: dict[str, Any], key: str | None, values: dict[str, Any]) -> None:
    asked = asked_rope(ModelSection(base_model="x/y", **keys))
    assert asked is not None
    assert (asked.key, asked.values) == (key or "overrides_of_model_config", values)


def test_nothing_asked_is_nothing() -> None:
    assert asked_rope(ModelSection(base_model="x/y", overrides_of_model_config={"use_cache": False})) is None
