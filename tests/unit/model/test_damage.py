"""Damaged model folders: the file is named, and nothing ends in a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from axo.errors import AxoError
from axo.model.damage import find_damage
from axo.model.load import load_model
from axo.model.tokenizer import load_tokenizer
from axo.recipe.model import ModelSection
from axo.recipe.tokenizer import TokenizerSection

CONFIG, TOKENIZER, WORDS, WEIGHTS = "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
Damage = Callable[[Path], object]


@pytest.fixture
def copy(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_llama_dir, tmp_path / "model")


def write(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def cut(name: str, keep: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def edit(name: str, **keys: Any) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | keys))


def folder_for_file(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def sharded(then: Damage) -> Damage:
    def damage(folder: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder)
        (folder / WEIGHTS).unlink()
        model.save_pretrained(folder, max_shard_size="40KB")
        then(folder)

    return damage


def first_shard(folder: Path) -> Path:
    return min(folder.glob("model-*.safetensors"))


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (write(CONFIG, ""), f"{CONFIG} cannot be read as JSON"),
        (write(CONFIG, "[1]"), f"{CONFIG} holds no JSON object"),
        (write(TOKENIZER, "{"), f"{TOKENIZER} cannot be read as JSON"),
        (write(TOKENIZER, "[]"), f"{TOKENIZER} holds no JSON object"),
        (write(TOKENIZER, "{}"), f"{TOKENIZER} is no tokenizer"),
        (edit(TOKENIZER, model=None), f"{TOKENIZER} is no tokenizer"),
        (write(WORDS, ""), f"{WORDS} cannot be read as JSON"),
        (write(WORDS, "[]"), f"{WORDS} holds no JSON object"),
        (cut(WEIGHTS, 0), f"{WEIGHTS} is empty"),
        (cut(WEIGHTS, 5000), f"{WEIGHTS} is cut short or damaged"),
        (cut(WEIGHTS, -1), f"{WEIGHTS} is cut short or damaged"),
        (cut(WEIGHTS, 4), f"{WEIGHTS} is cut short or damaged"),
        (folder_for_file(WEIGHTS), f"{WEIGHTS} is no file"),
        (write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "a pointer of Git LFS"),
        (sharded(write(INDEX, "{")), f"{INDEX} cannot be read as JSON"),
        (sharded(write(INDEX, "{}")), f"{INDEX} has no weight_map"),
        (sharded(lambda folder: first_shard(folder).unlink()), "model-00001-of-0000"),
        (sharded(lambda folder: first_shard(folder).write_bytes(b"")), "is empty"),
    ],
)
def test_the_damaged_file_is_named(copy: Path, damage: Damage, place: str) -> None:
    assert find_damage(copy) is None
    damage(copy)
    assert place in (found := find_damage(copy) or "")
    assert found.startswith(str(copy)) and found.endswith("copy or download it again")
    with pytest.raises(AxoError, match="cannot be loaded") as caught:
        load_all(copy)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (edit(CONFIG, num_attention_heads=3), "config.json"),
        (edit(CONFIG, rope_parameters=[1]), "config.json"),
        (edit(CONFIG, hidden_act="nope"), "it names 'nope', which is not known"),
        (edit(CONFIG, dtype="float99"), "float99"),
        (edit(CONFIG, hidden_size=-1), "model"),
        (edit(CONFIG, hidden_size="big"), "model"),
        (edit(WORDS, tokenizer_class=7), "model"),
        (edit(WORDS, eos_token=7), "eos_token"),
        (edit(WORDS, tokenizer_class="BertTokenizer"), "cannot read a text"),
        (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff\xfe"), "utf-8"),
        (write("generation_config.json", "[]"), "generation_config.json holds no JSON object"),
    ],
)
def test_files_that_can_be_read_and_are_wrong_are_an_error_too(copy: Path, damage: Damage, says: str) -> None:
    damage(copy)
    with pytest.raises(AxoError) as caught:
        load_all(copy)
    assert says in str(caught.value) and str(copy) in str(caught.value)
    assert caught.value.hint is not None


def load_all(folder: Path) -> None:
    load_tokenizer(TokenizerSection(), base_model=str(folder), revision=None, trust_remote_code=False)
    load_model(
        ModelSection(base_model=str(folder)),
        dtype=torch.float32,
        attn_implementation="sdpa",
        vocab_size=None,
        device="cpu",
        seed=0,
    )
