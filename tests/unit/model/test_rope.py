"""Scaled rotary positions: what trains, what plain transformers loads from what was saved, and the formulas by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
)

from axo.errors import RecipeError
from axo.model.load import load_model
from axo.recipe.model import ModelSection

SIZES = {
    "vocab_size": 40, "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": None, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
THETA, LIMIT, HEAD = 500.0, 64, 32
LONG, SHORT = [2.0 + 0.5 * i for i in range(16)], [1.0 + 0.1 * i for i in range(16)]
FACTOR = 4.0


def plain(dim: int = HEAD, theta: float = THETA) -> list[float]:
    return [theta ** (-2 * i / dim) for i in range(dim // 2)]


def linear(dim: int = HEAD, theta: float = THETA) -> list[float]:
    return [frequency / FACTOR for frequency in plain(dim, theta)]


def yarn(dim: int = HEAD, theta: float = THETA) -> list[float]:
    """arXiv 2309.00071, 3.2: what turns more than 32 times within the length stays, what turns less than once is
    stretched, with a ramp between the two, over whole dimensions."""

    def dimension(turns: float) -> float:
        return dim * math.log(LIMIT / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(dimension(32)), 0), min(math.ceil(dimension(1)), dim - 1)
    ramp = [min(max((i - low) / (high - low), 0.0), 1.0) for i in range(dim // 2)]
    return [f * (1 - r) + f / FACTOR * r for f, r in zip(plain(dim, theta), ramp, strict=True)]


def llama3(dim: int = HEAD, theta: float = THETA) -> list[float]:
    """Llama 3.1's apply_scaling, with low 1 and high 4."""
    scaled = []
    for frequency in plain(dim, theta):
        wavelength = 2 * math.pi / frequency
        if wavelength < LIMIT / 4:
            scaled.append(frequency)
        elif wavelength > LIMIT:
            scaled.append(frequency / FACTOR)
        else:
            smooth = (LIMIT / wavelength - 1) / 3
            scaled.append((1 - smooth) * frequency / FACTOR + smooth * frequency)
    return scaled


def longrope(dim: int = HEAD, theta: float = THETA) -> list[float]:
    """arXiv 2402.13753: a divisor for each frequency; the short ones at first."""
    return [frequency / divisor for frequency, divisor in zip(plain(dim, theta), SHORT, strict=False)]


LONG_ATTENTION = math.sqrt(1 + math.log(FACTOR) / math.log(LIMIT))
YARN_ATTENTION = 0.1 * math.log(FACTOR) + 1
CASES: dict[str, tuple[dict[str, Any], Callable[..., list[float]], float, int]] = {
    "linear": ({"factor": FACTOR}, linear, 1.0, 256),
    "dynamic": ({"factor": FACTOR}, plain, 1.0, 64),
    "yarn": ({"factor": FACTOR}, yarn, YARN_ATTENTION, 256),
    "llama3": ({"factor": FACTOR, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, llama3, 1.0, 256),
    "longrope": ({"factor": FACTOR, "short_factor": SHORT, "long_factor": LONG}, longrope, LONG_ATTENTION, 256),
}
"""Type -> entries, frequencies, what cosines and sines are multiplied by, the position limit afterwards."""


def llama() -> PreTrainedConfig:
    return LlamaConfig(**SIZES, rope_parameters={"rope_theta": THETA, "rope_type": "default"})


def save(config: PreTrainedConfig, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def load(base_model: Path, **keys: Any) -> Any:
    section = ModelSection(base_model=str(base_model), **keys)
    return load_model(
        section, dtype=torch.float32, attn_implementation="sdpa_varlen", vocab_size=None, device="cpu", seed=1
    )


def rotary(model: Any) -> Any:
    return model.model.rotary_emb


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(llama(), tmp_path_factory.mktemp("rope") / "llama")


@pytest.mark.parametrize("where", ["rope_scaling", "rope_parameters", "rope_scaling inside", "older file"])
@pytest.mark.parametrize("kind", CASES)
def test_frequencies_are_the_formulas_and_those_that_plain_transformers_reloads(
    base: Path, tmp_path: Path, kind: str, where: str
) -> None:
    entries, formula, attention, limit = CASES[kind]
    asked: dict[str, Any] = {"rope_type": kind, **entries}
    if where == "older file":  # as published before transformers 5, and asked for in the words of then
        config = json.loads((base / "config.json").read_text())
        config = {key: value for key, value in config.items() if key != "rope_parameters"}
        config |= {"rope_theta": THETA, "rope_scaling": None}
        base = save(llama(), tmp_path / "older")
        (base / "config.json").write_text(json.dumps(config))
        asked = {"type": kind, **entries}
    keys: dict[str, Any] = {"rope_scaling": asked}
    if where == "rope_parameters":
        keys = {"overrides_of_model_config": {"rope_parameters": asked}}
    elif where == "rope_scaling inside":
        keys = {"overrides_of_model_config": {"rope_scaling": asked}}
    model = load(base, **keys)

    torch.testing.assert_close(rotary(model).inv_freq, torch.tensor(formula()), atol=1e-6, rtol=1e-5)
    assert rotary(model).attention_scaling == pytest.approx(attention, abs=1e-9)
    assert model.config.rope_parameters["rope_theta"] == THETA
    assert model.config.max_position_embeddings == limit
    model.save_pretrained(tmp_path / "trained")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "trained").eval()
    assert torch.equal(rotary(reloaded).inv_freq, rotary(model).inv_freq)
    assert rotary(reloaded).attention_scaling == rotary(model).attention_scaling
    ids = torch.arange(40).repeat(3)[None, :100]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, reloaded(ids).logits, atol=1e-5, rtol=1e-5)


def test_longrope_takes_the_long_divisors_beyond_the_length_before_scaling(base: Path) -> None:
    entries = CASES["longrope"][0]
    model = load(base, rope_scaling={"rope_type": "longrope", **entries})
    with torch.no_grad():
        model(torch.zeros((1, LIMIT + 1), dtype=torch.int64))
    expected = [frequency / divisor for frequency, divisor in zip(plain(), LONG, strict=True)]
    torch.testing.assert_close(rotary(model).inv_freq, torch.tensor(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "longrope"])
def test_a_factor_of_one_changes_nothing(base: Path, kind: str) -> None:
    before = load(base)
    after = load(base, rope_scaling={"rope_type": kind, **CASES[kind][0], "factor": 1.0})
    # The formula of dynamic grows with a text beyond the limit whatever its factor is.
    ids = torch.arange(40).repeat(3)[None, : LIMIT if kind == "dynamic" else 100]
    torch.testing.assert_close(rotary(after).inv_freq, rotary(before).inv_freq, atol=1e-7, rtol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(after(ids).logits, before(ids).logits, atol=1e-5, rtol=1e-5)
    assert after.config.max_position_embeddings == LIMIT


def test_layers_with_a_window_keep_their_positions(tmp_path: Path) -> None:
    config = Gemma3TextConfig(
        **SIZES, head_dim=HEAD, sliding_window=8, layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": THETA},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    )  # fmt: skip
    base = save(config, tmp_path / "gemma3")
    for number, keys in enumerate(
        (
            {"rope_scaling": {"rope_type": "linear", "factor": FACTOR}},
            {
                "overrides_of_model_config": {
                    "rope_parameters": {"full_attention": {"type": "linear", "factor": FACTOR}}
                }
            },
        )
    ):
        model = load(base, **keys)
        model.save_pretrained(tmp_path / f"trained{number}")
        for found in (model, AutoModelForCausalLM.from_pretrained(tmp_path / f"trained{number}")):
            full, window = rotary(found).full_attention_inv_freq, rotary(found).sliding_attention_inv_freq
            torch.testing.assert_close(full, torch.tensor(linear()), atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(window, torch.tensor(plain(theta=50.0)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "yarn", "llama3"])
def test_the_part_of_a_head_that_turns_stays(tmp_path: Path, kind: str) -> None:
    parameters = {"rope_theta": THETA, "rope_type": "default", "partial_rotary_factor": 0.25}
    base = save(PhiConfig(**SIZES, rope_parameters=parameters), tmp_path / "phi")
    entries, formula, *_ = CASES[kind]
    model = load(base, rope_scaling={"rope_type": kind, **entries})
    torch.testing.assert_close(rotary(model).inv_freq, torch.tensor(formula(8)), atol=1e-6, rtol=1e-5)


def test_theta_can_be_replaced_alone(base: Path, tmp_path: Path) -> None:
    model = load(base, overrides_of_model_config={"rope_theta": 9000.0})
    model.save_pretrained(tmp_path / "trained")
    for found in (model, AutoModelForCausalLM.from_pretrained(tmp_path / "trained")):
        torch.testing.assert_close(rotary(found).inv_freq, torch.tensor(plain(theta=9000.0)), atol=1e-6, rtol=1e-5)


def test_dynamic_frequencies_follow_each_forward_and_none_before(base: Path) -> None:
    scaling = {"rope_type": "dynamic", "factor": FACTOR}
    model, fresh = load(base, rope_scaling=scaling), load(base, rope_scaling=scaling)
    short, middle, long = (torch.arange(length)[None] % 40 for length in (50, 80, 120))
    with torch.no_grad():
        expected = {len(ids[0]): load(base, rope_scaling=scaling)(ids).logits for ids in (short, middle, long)}
        for ids in (short, long, middle, short, long, short):
            assert torch.equal(model(ids).logits, expected[len(ids[0])])
        theta = THETA * (FACTOR * 80 / LIMIT - (FACTOR - 1)) ** (HEAD / (HEAD - 2))
        fresh(long), fresh(middle)
    torch.testing.assert_close(rotary(fresh).inv_freq, torch.tensor(plain(theta=theta)), atol=1e-6, rtol=1e-4)


def test_a_trained_model_is_not_scaled_again(base: Path, tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": FACTOR}
    load(base, rope_scaling=scaling).save_pretrained(tmp_path / "trained")
    section = ModelSection(base_model=str(base), rope_scaling=scaling)
    again = load_model(
        section, source=str(tmp_path / "trained"), dtype=torch.float32, attn_implementation="eager", vocab_size=None,
        device="cpu", seed=1,
    )  # fmt: skip
    assert again.config.max_position_embeddings == 256
    torch.testing.assert_close(rotary(again).inv_freq, torch.tensor(yarn()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "keys", "says"),
    [
        (llama, {"overrides_of_model_config": {"atention_dropout": 0.1}}, "did you mean 'attention_dropout'"),
        (llama, {"overrides_of_model_config": {"num_local_experts": 4}}, "has no entry 'num_local_experts'"),
        (llama, {"overrides_of_model_config": {"attention_dropout": "much"}}, "does not take these values"),
        (
            lambda: GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=2, n_positions=64),
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
            "no rotary positions that could be scaled",
        ),
        (
            lambda: Phi3Config(**SIZES),
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            "computes longrope where a phi3 says yarn",
        ),
        (llama, {"cls_model_config": "LlamaTextConfig"}, "no config class LlamaTextConfig"),
        (llama, {"cls_model_config": "MistralConfig"}, "describes a model of type 'llama'"),
        (llama, {"model_kwargs": {"no_such_thing": 3}}, "nothing of transformers takes no_such_thing"),
    ],
)
def test_what_the_model_does_not_take_is_refused(
    tmp_path: Path, config: Callable[[], PreTrainedConfig], keys: dict[str, Any], says: str
) -> None:
    base = save(config(), tmp_path / "model")
    with pytest.raises(RecipeError) as refusal:
        load(base, **keys)
    (finding,) = refusal.value.findings
    assert says in f"{finding.message} {finding.hint}"
    assert finding.key in keys


CHANGED: dict[str, tuple[Callable[[], PreTrainedConfig], dict[str, Any]]] = {
    "llama": (llama, {"attention_dropout": 0.25}),
    "mistral": (lambda: MistralConfig(**SIZES, sliding_window=None), {"sliding_window": 7}),
    "gpt2": (lambda: GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=2, n_positions=64), {"attn_pdrop": 0.0}),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_replaced_entries_are_used_and_saved_and_the_rest_stays(tmp_path: Path, kind: str) -> None:
    config, overrides = CHANGED[kind]
    base = save(config(), tmp_path / "model")
    model = load(base, overrides_of_model_config=overrides)
    model.save_pretrained(tmp_path / "trained")
    before, after = AutoConfig.from_pretrained(base), AutoConfig.from_pretrained(tmp_path / "trained")
    differing = {name for name, value in after.to_dict().items() if before.to_dict().get(name) != value}
    assert differing - {"_name_or_path"} == set(overrides)
    assert all(getattr(model.config, name) == value for name, value in overrides.items())
    assert model.config.name_or_path == str(base)


def test_arguments_of_loading_are_passed_on(base: Path) -> None:
    assert load(base, model_kwargs={"use_safetensors": True, "low_cpu_mem_usage": True}) is not None
    moved = base.parent / "inside"
    base.rename(moved / "deep") if moved.mkdir() is None else None
    try:
        model = load(moved, base_model_config=str(moved / "deep"), model_kwargs={"subfolder": "deep"})
        assert model.config.hidden_size == SIZES["hidden_size"]
    finally:
        (moved / "deep").rename(base)
