"""bnb_config_kwargs: every name and value that transformers would pass over or misread is refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from axo.recipe.quantization_rules import SETTINGS, bnb_settings
from axo.recipe.recipe import Recipe, recipe_from_flat


def recipe_of(bits: int, settings: dict[str, Any] | None) -> Recipe:
    return recipe_from_flat(
        {
            "base_model": "x/y",
            "datasets": [{"path": "z/w", "type": "alpaca"}],
            "learning_rate": 1e-3,
            f"load_in_{bits}bit": True,
            "bnb_config_kwargs": settings,
        }
    )


def test_the_names_are_those_of_bits_and_bytes_config() -> None:
    from transformers import BitsAndBytesConfig

    known = {*inspect.signature(BitsAndBytesConfig.__init__).parameters} - {"self", "kwargs"}
    assert {*SETTINGS} == known - {"load_in_4bit", "load_in_8bit"}


@pytest.mark.parametrize(
    ("bits", "settings"),
    [
        (4, None),
        (4, {}),
        (4, {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False}),
        (4, {"bnb_4bit_compute_dtype": "float16", "bnb_4bit_quant_storage": "uint8"}),
        (4, {"llm_int8_skip_modules": ["lm_head", "out_proj"], "llm_int8_has_fp16_weight": False}),
        (8, {"llm_int8_threshold": 0, "llm_int8_enable_fp32_cpu_offload": False}),
        (8, {"llm_int8_threshold": 4.5, "llm_int8_skip_modules": ["mamba"]}),
    ],
)
def test_what_transformers_takes_is_accepted(bits: int, settings: dict[str, Any] | None) -> None:
    assert bnb_settings(recipe_of(bits, settings)) == []


@pytest.mark.parametrize(
    ("bits", "name", "value", "says"),
    [
        (4, "bnb_4bit_use_double_quants", True, "did you mean 'bnb_4bit_use_double_quant'"),
        (4, "bnb_4bit_quant_typ", "nf4", "did you mean 'bnb_4bit_quant_type'"),
        (4, "nonsense", 1, "settings: bnb_4bit_quant_type,"),
        (4, "blocksize", 64, "blocks of 64"),
        (4, "load_in_8bit", True, "a key of the recipe itself"),
        (4, "bnb_4bit_quant_type", "nf3", "expected nf4 or fp4"),
        (4, "bnb_4bit_quant_type", None, "expected nf4 or fp4"),
        (4, "bnb_4bit_use_double_quant", "yes", "expected true or false"),
        (4, "bnb_4bit_use_double_quant", 1, "expected true or false"),
        (4, "bnb_4bit_compute_dtype", "torch.bfloat16", "expected bfloat16 or float16 or float32"),
        (4, "bnb_4bit_compute_dtype", "int8", "expected bfloat16"),
        (4, "bnb_4bit_quant_storage", "float64", "expected uint8"),
        (4, "llm_int8_skip_modules", "lm_head", "a list of"),
        (4, "llm_int8_skip_modules", ["lm_head", 3], "a list of"),
        (4, "llm_int8_threshold", 6.0, "has no effect on 4 bits"),
        (8, "llm_int8_threshold", "6", "a number that is not negative"),
        (8, "llm_int8_threshold", -1, "a number that is not negative"),
        (8, "llm_int8_has_fp16_weight", True, "stay in 16 bits"),
        (8, "llm_int8_enable_fp32_cpu_offload", True, "on the device that computes with it"),
        (8, "bnb_4bit_quant_type", "nf4", "has no effect on 8 bits"),
    ],
)
def test_what_it_would_pass_over_or_misread_is_refused_at_its_name(bits: int, name: str, value: Any, says: str) -> None:
    (finding,) = bnb_settings(recipe_of(bits, {name: value}))
    assert finding.key == f"bnb_config_kwargs.{name}"
    assert says in f"{finding.message} / {finding.hint}"
