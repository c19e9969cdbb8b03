"""New texts for added tokens held in reserve, against a tokenizer that was made with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from axo.errors import RecipeError
from axo.model.tokenizer import load_tokenizer, rows_multiple_of
from axo.recipe.tokenizer import TokenizerSection


@pytest.fixture
def reserved(tmp_path: Path, tiny_tokenizer_dir: Path) -> Path:
    """The tiny tokenizer with two special tokens and an ordinary one that nothing uses."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|reserved_0|>", "<|reserved_1|>"]})
    tokenizer.add_tokens(["<unused>"])
    tokenizer.save_pretrained(tmp_path / "reserved")
    return tmp_path / "reserved"


def load(folder: Path, **keys: Any) -> Any:
    section = TokenizerSection(**keys)
    return load_tokenizer(section, base_model=str(folder), revision=None, trust_remote_code=False)


def test_a_token_gets_its_new_text_at_its_old_id(reserved: Path, tmp_path: Path) -> None:
    before = load(reserved)
    first, last = before.convert_tokens_to_ids("<|reserved_0|>"), before.convert_tokens_to_ids("<unused>")
    tokenizer = load(reserved, added_tokens_overrides={first: "<|think|>", last: "<tool>"})
    assert len(tokenizer) == len(before)
    assert tokenizer.encode("a<|think|>b<tool>") == [
        *before.encode("a"), first, *before.encode("b"), last
    ]  # fmt: skip
    assert tokenizer.decode([first], skip_special_tokens=True) == ""  # it is special, as it was
    assert tokenizer.decode([last], skip_special_tokens=True) == "<tool>"
    assert "<|reserved_0|>" not in tokenizer.get_vocab()
    assert tokenizer.convert_ids_to_tokens(first + 1) == "<|reserved_1|>"
    assert tokenizer.chat_template == before.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == (before.eos_token, before.pad_token)
    assert str(tokenizer.name_or_path) == str(before.name_or_path)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert "<|reserved_0|>" not in (tmp_path / "saved" / "tokenizer.json").read_text()


def test_what_is_no_token_in_reserve_is_refused(reserved: Path) -> None:
    tokenizer = load(reserved)
    first, end = tokenizer.convert_tokens_to_ids("<|reserved_0|>"), tokenizer.eos_token_id
    for given, at, said in (
        ({5: "<new>"}, "5", "no added token"),
        ({end: "<new>"}, str(end), "the eos_token of the tokenizer"),
        ({first: "<|im_end|>"}, str(first), "is token"),
        ({first: " "}, str(first), "an empty text"),
        ({first: "<x>", first + 1: "<x>"}, str(first), "given to several ids"),
    ):
        with pytest.raises(RecipeError) as caught:
            load(reserved, added_tokens_overrides=given)
        finding = caught.value.findings[0]
        assert finding.key == f"added_tokens_overrides.{at}" and said in finding.message
    assert "(<|reserved_0|>)" in json.dumps(str(caught.value)) or caught.value.findings[0].hint


def test_rows_are_filled_up_to_a_multiple_of_32_only_where_asked() -> None:
    assert rows_multiple_of(TokenizerSection()) == 1
    assert rows_multiple_of(TokenizerSection(resize_token_embeddings_to_32x=False)) == 1
    assert rows_multiple_of(TokenizerSection(resize_token_embeddings_to_32x=True)) == 32


@pytest.mark.parametrize(
    ("tokens", "rows"), [(None, 61), (61, 61), (62, 64), (64, 64), (65, 96)], ids=lambda value: str(value)
)
def test_embeddings_grow_to_the_next_multiple_and_only_where_they_grow(tokens: int | None, rows: int) -> None:
    from axo.model.load import _grow_embeddings  # pyright: ignore[reportPrivateUsage]
    from tests.unit.adapters.test_lora import tiny

    for tied in (False, True):
        model = tiny(tied=tied)
        _grow_embeddings(model, tokens, 32)
        assert model.get_input_embeddings().weight.shape[0] == model.get_output_embeddings().weight.shape[0] == rows
        assert model.config.vocab_size == rows
        assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
