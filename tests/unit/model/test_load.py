"""Loading a model: size, dtype, seed, and every way in which files can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig, LlamaForCausalLM

from axo.errors import AxoError, CheckpointError, HardwareError, RecipeError
from axo.model.load import load_model
from axo.recipe.model import ModelSection


def load(base_model: Path | str, **arguments: Any) -> Any:
    keys = arguments.pop("section", {})
    defaults: dict[str, Any] = {
        "dtype": torch.float32,
        "attn_implementation": "sdpa_varlen",
        "vocab_size": None,
        "device": "cpu",
        "seed": 5,
    }
    return load_model(ModelSection(base_model=str(base_model), **keys), **(defaults | arguments))


@pytest.fixture
def copy(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    """A model folder that a test may damage."""
    return shutil.copytree(tiny_llama_dir, tmp_path / "model")


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied")
    return tmp_path / "tied"


@pytest.mark.parametrize("name", ["eager", "sdpa", "sdpa_varlen"])
def test_the_logits_are_those_of_plain_transformers(tiny_llama_dir: Path, name: str) -> None:
    ids = torch.arange(20)[None]
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama_dir).eval()
    torch.testing.assert_close(
        load(tiny_llama_dir, attn_implementation=name)(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_has_the_asked_dtype_and_the_model_is_not_training(
    tiny_llama_dir: Path, dtype: torch.dtype
) -> None:
    model = load(tiny_llama_dir, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not model.training


def test_what_is_saved_again_has_the_config_it_came_with(tiny_llama_dir: Path, tmp_path: Path) -> None:
    load(tiny_llama_dir).save_pretrained(tmp_path)
    saved, original = (json.loads((path / "config.json").read_text()) for path in (tmp_path, tiny_llama_dir))
    assert saved == original


@pytest.mark.parametrize("is_tied", [False, True])
def test_embeddings_grow_and_keep_their_rows_and_their_tie(tied: Path, tiny_llama_dir: Path, is_tied: bool) -> None:
    folder = tied if is_tied else tiny_llama_dir
    before = load(folder)
    num_rows = before.get_input_embeddings().weight.shape[0]
    model = load(folder, vocab_size=num_rows + 3)
    for rows, old in (
        (model.get_input_embeddings().weight, before.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, before.get_output_embeddings().weight),
    ):
        assert rows.shape == (num_rows + 3, old.shape[1])
        assert torch.equal(rows[:num_rows], old)
        # New rows are drawn around the mean of the others, with 1e-9 of their covariance.
        torch.testing.assert_close(rows[num_rows:], old.mean(0).expand(3, -1), atol=1e-3, rtol=0)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == is_tied
    assert model.config.vocab_size == num_rows + 3


def test_embeddings_never_shrink(tiny_llama_dir: Path) -> None:
    num_rows = load(tiny_llama_dir).get_input_embeddings().weight.shape[0]
    assert load(tiny_llama_dir, vocab_size=num_rows - 9).get_input_embeddings().weight.shape[0] == num_rows


def test_new_rows_and_new_weights_come_from_the_seed_alone(tiny_llama_dir: Path) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()

    def weights(**arguments: Any) -> torch.Tensor:
        return load(tiny_llama_dir, vocab_size=530, **arguments).get_input_embeddings().weight

    for section in ({}, {"reinit_weights": True}):
        first, again, other = (weights(section=section, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_reinit_weights_has_the_shape_of_the_base_and_none_of_its_weights(tiny_llama_dir: Path) -> None:
    base, fresh = load(tiny_llama_dir), load(tiny_llama_dir, section={"reinit_weights": True})
    assert base.config.to_dict() == fresh.config.to_dict()
    for (name, old), new in zip(base.named_parameters(), fresh.parameters(), strict=True):
        assert old.shape == new.shape
        assert torch.equal(old, new) == ("norm" in name)


def test_source_is_loaded_instead_of_the_base_model(tiny_llama_dir: Path, tied: Path) -> None:
    model = load(tiny_llama_dir, source=str(tied), section={"reinit_weights": True, "revision_of_model": "main"})
    assert torch.equal(model.model.embed_tokens.weight, load(tied).model.embed_tokens.weight)


def test_another_config_is_used_with_the_weights_of_the_base(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    other = tmp_path / "config"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.125}))
    assert load(copy, section={"base_model_config": str(other)}).config.rms_norm_eps == 0.125


def test_the_model_type_must_be_that_of_the_config(tiny_llama_dir: Path) -> None:
    for agreeing in ("LlamaForCausalLM", "AutoModelForCausalLM"):
        load(tiny_llama_dir, section={"model_type": agreeing})
    with pytest.raises(RecipeError, match=r"model_type: is MistralForCausalLM, but .* says LlamaForCausalLM"):
        load(tiny_llama_dir, section={"model_type": "MistralForCausalLM"})


def test_weights_that_would_start_at_random_are_refused_by_name(copy: Path) -> None:
    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:7].clone()
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        load(copy)
    assert "model.layers.1.mlp.up_proj.weight is missing" in str(caught.value)
    num_rows = json.loads((copy / "config.json").read_text())["vocab_size"]
    assert f"lm_head.weight is 7x32, the config says {num_rows}x32" in str(caught.value)


def test_a_tied_head_that_is_not_in_the_file_is_not_missing(tied: Path) -> None:
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    model = load(tied)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_tensors_without_use_are_named_and_do_no_harm(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = copy / "model.safetensors"
    save_file({**load_file(weights), "extra.weight": torch.zeros(2)}, weights, metadata={"format": "pt"})
    with caplog.at_level("WARNING", logger="axo"):
        load(copy)
    assert "extra.weight" in caplog.text


def damage(copy: Path, how: str) -> str:
    weights, config = copy / "model.safetensors", copy / "config.json"
    if how == "no weights":
        weights.unlink()
    elif how == "no config":
        config.unlink()
    elif how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "broken header":
        weights.write_bytes(b"\xff" * 64)
    elif how == "config is no JSON":
        config.write_text("{")
    elif how == "unknown architecture":
        config.write_text('{"model_type": "no_such_model"}')
    elif how == "not a language model":
        config.write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    elif how == "a hub name that is not here":
        return "no-such-owner/no-such-model"
    else:
        return str(copy / "nowhere")
    return str(copy)


@pytest.mark.parametrize(
    "how",
    [
        "no weights",
        "no config",
        "truncated weights",
        "broken header",
        "config is no JSON",
        "unknown architecture",
        "not a language model",
        "a hub name that is not here",
        "no folder",
    ],
)
def test_files_that_are_missing_or_damaged_are_an_error_with_a_hint(copy: Path, how: str) -> None:
    base_model = damage(copy, how)
    with pytest.raises(AxoError) as caught:
        load(base_model)
    assert isinstance(caught.value, CheckpointError | RecipeError)
    assert base_model in str(caught.value)
    assert "expected: a folder saved by transformers" in str(caught.value)


def test_an_attention_that_this_machine_lacks_is_refused(tiny_llama_dir: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine may have flash attention")
    with pytest.raises(HardwareError, match="FlashAttention2"):
        load(tiny_llama_dir, attn_implementation="flash_attention_2")


def test_an_attention_that_the_model_does_not_ask_for_is_refused(tmp_path: Path) -> None:
    config = GPTJConfig(vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="attn_implementation: is sdpa_varlen, but GPTJForCausalLM"):
        load(tmp_path)
    load(tmp_path, attn_implementation="eager")
