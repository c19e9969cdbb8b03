"""Which attention runs, by a table worked by hand: what is asked, the GPU, the packages, the model."""

from __future__ import annotations

from typing import Any

import pytest

from axo.errors import RecipeError
from axo.plan.attention import for_generation
from axo.plan.attention_shapes import attention_shape
from axo.plan.facts import Device, Facts, Hardware
from axo.plan.plan import Decision
from axo.plan.resolve import resolve
from axo.recipe.recipe import recipe_from_flat

CAPABILITIES = {"T4": (7, 5), "A100": (8, 0), "L40": (8, 9), "H100": (9, 0), "B200": (10, 0), "RTX5090": (12, 0)}
LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32}
WIDE = {"model_type": "gemma3_text", "head_dim": 256, "hidden_size": 2560, "num_attention_heads": 8}
WIDER = {"model_type": "gemma4_text", "head_dim": 256, "global_head_dim": 512}
GEMMA2 = {"model_type": "gemma2", "head_dim": 256, "attn_logit_softcapping": 50.0, "attention_dropout": 0.0}
GPT_OSS = {"model_type": "gpt_oss", "head_dim": 64}
DROPS = {**LLAMA, "attention_dropout": 0.1}
FA2, FA3, FA4, XF = "flash-attn", "flash-attn-3", "flash-attn-4", "xformers"
ALL = (FA2, FA3, FA4, XF)


def attention(
    keys: dict[str, Any] | None = None, *, gpu: str | None, packages: tuple[str, ...] = (), config: Any = LLAMA
) -> tuple[str, Decision]:
    flat = {
        "base_model": "x/y",
        "datasets": [{"path": "z/w", "type": "alpaca"}],
        "learning_rate": 1e-3,
        "sequence_len": 64,
        **(keys or {}),
    }
    devices = () if gpu is None else (Device(gpu, 80 * 2**30, CAPABILITIES[gpu]),)
    hardware = Hardware(devices=devices, cpu_count=8, packages=dict.fromkeys(packages, "1"))
    plan = resolve(recipe_from_flat(flat), Facts(hardware, config))
    return plan.attn_implementation, next(one for one in plan.decisions if one.key == "attn_implementation")


@pytest.mark.parametrize(
    ("gpu", "packages", "config", "effective"),
    [
        (None, ALL, LLAMA, "sdpa_varlen"),
        ("T4", ALL, LLAMA, "sdpa_varlen"),
        ("A100", (), LLAMA, "sdpa_varlen"),
        ("A100", ALL, LLAMA, "flash_attention_2"),
        ("A100", (FA3, FA4), LLAMA, "sdpa_varlen"),
        ("H100", ALL, LLAMA, "flash_attention_3"),
        ("H100", (FA2, FA4), LLAMA, "flash_attention_2"),
        ("H100", (FA4,), LLAMA, "flash_attention_4"),
        ("B200", ALL, LLAMA, "flash_attention_4"),
        ("B200", (FA2, FA3), LLAMA, "flash_attention_2"),
        ("RTX5090", (FA3,), LLAMA, "sdpa_varlen"),
        ("B200", ALL, WIDE, "flash_attention_2"),
        ("H100", ALL, WIDE, "flash_attention_3"),
        ("H100", ALL, WIDER, "sdpa_varlen"),
        ("B200", ALL, GEMMA2, "flash_attention_2"),
        ("H100", (FA2, FA3), GPT_OSS, "sdpa_varlen"),
        ("B200", ALL, GPT_OSS, "flash_attention_4"),
        ("H100", (FA2,), None, "flash_attention_2"),
    ],
)
def test_unset_it_is_the_best_that_machine_and_model_have(
    gpu: str | None, packages: tuple[str, ...], config: Any, effective: str
) -> None:
    found, decision = attention(gpu=gpu, packages=packages, config=config)
    assert (found, decision.fallback, decision.asked) == (effective, False, "unset")


@pytest.mark.parametrize(
    ("asked", "gpu", "packages", "config", "effective", "why"),
    [
        ("flash_attention_2", None, ALL, LLAMA, "sdpa_varlen", "needs a GPU"),
        ("flash_attention_2", "A100", (), LLAMA, "sdpa_varlen", "package flash-attn is not installed"),
        (
            "flash_attention_2",
            "T4",
            ALL,
            LLAMA,
            "sdpa_varlen",
            "needs compute capability 8.0 or newer and the GPU has 7.5",
        ),
        ("flash_attention_3", "A100", ALL, LLAMA, "flash_attention_2", "9.0 to below 10.0 and the GPU has 8.0"),
        ("flash_attention_3", "H100", (FA2,), LLAMA, "flash_attention_2", "package flash-attn-3 is not installed"),
        ("flash_attention_4", "A100", ALL, LLAMA, "flash_attention_2", "9.0 or newer and the GPU has 8.0"),
        ("flash_attention_4", "B200", ALL, WIDE, "flash_attention_2", "at most 128 numbers and this model's have 256"),
        ("flash_attention_4", "B200", ALL, GEMMA2, "flash_attention_2", "at most 128"),
        ("flash_attention_2", "H100", ALL, GPT_OSS, "flash_attention_4", "cannot compute attention sinks"),
        ("xformers", None, ALL, LLAMA, "sdpa_varlen", "xformers needs a GPU"),
        ("xformers", "A100", (FA2,), LLAMA, "flash_attention_2", "package xformers is not installed"),
        ("xformers", "A100", (XF,), GEMMA2, "sdpa_varlen", "cannot compute soft-capped scores"),
        ("flex_attention", None, (), LLAMA, "sdpa_varlen", "flex_attention needs a GPU"),
        ("flex_attention", "A100", (), DROPS, "sdpa_varlen", "has no dropout"),
        ("sdpa", None, (), GEMMA2, "sdpa_varlen", "cannot compute soft-capped scores"),
        ("sdpa", None, (), GPT_OSS, "sdpa_varlen", "cannot compute attention sinks"),
    ],
)
def test_what_cannot_be_had_is_the_best_that_keeps_packs_apart_and_said(
    asked: str, gpu: str | None, packages: tuple[str, ...], config: Any, effective: str, why: str
) -> None:
    keys = {"attn_implementation": asked, "sample_packing": True}
    found, decision = attention(keys, gpu=gpu, packages=packages, config=config)
    assert (found, decision.fallback) == (effective, True)
    assert why in decision.why and decision.why.endswith(f"{effective} keeps packed samples apart too")
    with pytest.raises(RecipeError, match=f"{asked} cannot be had"):
        attention({**keys, "fallbacks": "refuse"}, gpu=gpu, packages=packages, config=config)


@pytest.mark.parametrize(
    ("asked", "gpu", "packages", "config"),
    [
        ("eager", None, (), GPT_OSS),
        ("sdpa", None, (), LLAMA),
        ("sdpa_varlen", "H100", ALL, GEMMA2),
        ("flash_attention_2", "RTX5090", (FA2,), GEMMA2),
        ("flash_attention_3", "H100", (FA3,), WIDE),
        ("flash_attention_4", "H100", (FA4,), GPT_OSS),
        ("flex_attention", "T4", (), GPT_OSS),
        ("xformers", "T4", (XF,), DROPS),
    ],
)
def test_what_can_be_had_runs_as_asked(asked: str, gpu: str | None, packages: tuple[str, ...], config: Any) -> None:
    found, decision = attention({"attn_implementation": asked}, gpu=gpu, packages=packages, config=config)
    assert (found, decision.fallback) == (asked, False)
    assert decision.why.startswith("as asked")


def test_float32_takes_no_flash_attention() -> None:
    found, decision = attention(
        {"bf16": False, "attn_implementation": "flash_attention_2"}, gpu="H100", packages=(FA2,)
    )
    assert found == "sdpa_varlen" and "16 bits only" in decision.why


@pytest.mark.parametrize(
    ("keys", "gpu", "config", "says"),
    [
        ({}, "H100", LLAMA, "one call for all samples"),
        ({"bf16": False}, "H100", LLAMA, "computes in 16 bits only"),
        ({}, "T4", LLAMA, "of each length"),
        ({}, "H100", GEMMA2, "cannot compute soft-capped scores"),
        ({}, "H100", GPT_OSS, "cannot compute attention sinks"),
        ({}, "H100", DROPS, "has no dropout"),
        ({}, "H100", WIDER, "this model's have 512"),
        ({}, None, LLAMA, "one call for each sample"),
    ],
)
def test_the_plan_says_how_sdpa_varlen_computes(keys: dict[str, Any], gpu: str | None, config: Any, says: str) -> None:
    found, decision = attention(keys, gpu=gpu, config=config)
    assert found == "sdpa_varlen" and says in decision.why


@pytest.mark.parametrize(
    ("config", "head_dim", "special"),
    [
        (LLAMA, 128, None),
        (WIDER, 512, None),
        (GEMMA2, 256, "soft-capped scores"),
        ({"model_type": "gemma2"}, None, "soft-capped scores"),
        ({"model_type": "gemma2", "attn_logit_softcapping": None}, None, None),
        (GPT_OSS, 64, "attention sinks"),
        ({"model_type": "deepseek_v3", "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, 192, None),
        ({"model_type": "gpt2", "n_embd": 768, "n_head": 12}, 64, None),
        ({"model_type": "gemma3", "text_config": WIDE}, 256, None),
        ({"hidden_size": "wide", "num_attention_heads": 0}, None, None),
        (None, None, None),
    ],
)
def test_heads_are_read_from_the_config(config: Any, head_dim: int | None, special: str | None) -> None:
    shape = attention_shape(config)
    assert (shape.head_dim, shape.special) == (head_dim, special)


@pytest.mark.parametrize(
    ("trained", "config", "answers"),
    [
        ("sdpa_varlen", LLAMA, "sdpa"),
        ("xformers", LLAMA, "sdpa"),
        ("flex_attention", None, "sdpa"),
        ("sdpa_varlen", GEMMA2, "eager"),
        ("flex_attention", GPT_OSS, "eager"),
        ("flash_attention_2", LLAMA, "flash_attention_2"),
        ("eager", LLAMA, "eager"),
    ],
)
def test_answers_are_computed_by_what_pads_and_caches(trained: str, config: Any, answers: str) -> None:
    assert for_generation(trained, config) == answers
