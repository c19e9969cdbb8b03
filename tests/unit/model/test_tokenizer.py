"""The tokenizer: tokens that a recipe sets or adds, padding, and files that are wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from axo.errors import AxoError, CheckpointError, RecipeError
from axo.model.tokenizer import load_tokenizer
from axo.recipe.tokenizer import TokenizerSection


def load(base_model: Path | str, **keys: Any) -> Any:
    return load_tokenizer(TokenizerSection(**keys), base_model=str(base_model), revision=None, trust_remote_code=False)


@pytest.fixture
def copy(tiny_tokenizer_dir: Path, tmp_path: Path) -> Path:
    """A tokenizer folder that a test may change."""
    return shutil.copytree(tiny_tokenizer_dir, tmp_path / "tokenizer")


def plain(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def without(folder: Path, *names: str) -> None:
    path = folder / "tokenizer_config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in names}
    path.write_text(json.dumps(config))


def test_without_keys_it_is_the_tokenizer_of_the_base_model(tiny_tokenizer_dir: Path) -> None:
    ours, theirs = load(tiny_tokenizer_dir), plain(tiny_tokenizer_dir)
    text = "<|im_start|>user\nWhat is 7 March 1999?<|im_end|>"
    assert ours(text) == theirs(text)
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template
    assert ours.is_fast


def test_tokenizer_config_takes_the_place_of_the_base_model(tiny_tokenizer_dir: Path) -> None:
    tokenizer = load("/nowhere", tokenizer_config=str(tiny_tokenizer_dir))
    assert tokenizer.get_vocab() == plain(tiny_tokenizer_dir).get_vocab()


def test_special_tokens_are_set_and_added_where_they_are_new(tiny_tokenizer_dir: Path) -> None:
    keys = {"eos_token": "<|im_start|>", "pad_token": "<|pad|>", "additional_special_tokens": ["<tool>", "</tool>"]}
    tokenizer = load(tiny_tokenizer_dir, special_tokens=keys)
    assert len(tokenizer) == len(plain(tiny_tokenizer_dir)) + 3
    assert (tokenizer.eos_token_id, tokenizer.pad_token) == (1, "<|pad|>")
    for token in ("<|pad|>", "<tool>", "</tool>", "<|im_start|>"):
        assert tokenizer.tokenize(f"a {token}b")[1:-1].count(token) == 1
        assert tokenizer.decode(tokenizer(token).input_ids, skip_special_tokens=True) == ""
    assert tokenizer.bos_token is None


def test_further_special_tokens_leave_those_there_are(copy: Path) -> None:
    first = load(copy, special_tokens={"additional_special_tokens": ["<one>"]})
    first.save_pretrained(copy)
    second = load(copy, special_tokens={"additional_special_tokens": ["<two>"]})
    assert {"<one>", "<two>"} <= set(second.all_special_tokens)
    for token in ("<one>", "<two>"):
        assert second.decode(second(token).input_ids, skip_special_tokens=True) == ""


def test_added_tokens_are_ordinary_text_of_one_token(tiny_tokenizer_dir: Path) -> None:
    tokenizer = load(tiny_tokenizer_dir, tokens=["<step>", "<|im_end|>"])
    new = len(plain(tiny_tokenizer_dir))
    assert len(tokenizer) == new + 1
    ids = tokenizer("go<step> on<|im_end|>").input_ids
    assert new in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "go<step> on"


def test_what_was_added_is_there_after_saving(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = load(tiny_tokenizer_dir, tokens=["<step>"], special_tokens={"pad_token": "<|pad|>"})
    tokenizer.save_pretrained(tmp_path)
    saved = plain(tmp_path)
    text = "a<step>b<|pad|>c"
    assert saved(text).input_ids == tokenizer(text).input_ids
    assert (saved.pad_token, len(saved)) == ("<|pad|>", len(tokenizer))


def test_a_missing_pad_token_is_the_end_of_sequence_token_and_said(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without(copy, "pad_token")
    with caplog.at_level("INFO", logger="axo"):
        tokenizer = load(copy)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert "no pad token" in caplog.text


def test_a_pad_token_that_is_there_is_kept_in_silence(
    tiny_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="axo"):
        assert load(tiny_tokenizer_dir).pad_token == "<|endoftext|>"
    assert caplog.text == ""


def test_with_neither_pad_nor_end_the_recipe_must_name_one(copy: Path) -> None:
    without(copy, "pad_token", "eos_token")
    with pytest.raises(RecipeError, match="special_tokens: the tokenizer has neither"):
        load(copy)
    assert load(copy, special_tokens={"eos_token": "<|im_end|>"}).pad_token == "<|im_end|>"


@pytest.mark.parametrize("how", ["no folder", "no files", "broken", "cut off", "no hub name"])
def test_a_tokenizer_that_cannot_be_loaded_is_an_error_with_a_hint(copy: Path, tmp_path: Path, how: str) -> None:
    name, file = str(copy), copy / "tokenizer.json"
    if how == "no folder":
        name = str(tmp_path / "nowhere")
    elif how == "no files":
        file.unlink()
    elif how == "broken":
        file.write_text("{}")
    elif how == "cut off":
        file.write_text(file.read_text()[:500])
    else:
        name = "no-such-owner/no-such-model"
    with pytest.raises(AxoError) as caught:
        load(name)
    assert isinstance(caught.value, CheckpointError | RecipeError)
    assert name in str(caught.value)
    assert "hub" in str(caught.value)


def test_a_slow_tokenizer_is_refused(tiny_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        is_fast = False

    monkeypatch.setattr("axo.model.tokenizer.AutoTokenizer.from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(RecipeError, match="slow one"):
        load(tiny_tokenizer_dir)
