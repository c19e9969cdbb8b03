"""The chat template that stands beside the weights, and that inference asks with, is the one of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from axo.data.templates import resolve_chat_template
from axo.recipe.read import read_recipe
from axo.recipe.recipe import recipe_from_flat
from axo.registry.tables import ADAPTERS
from axo.workflows.merge import merge
from axo.workflows.prepare import prepare_only
from axo.workflows.template import taught_template

OWN = "{% for m in messages %}({{ m.role }}) {{ m.content }}<|im_end|>{% endfor %}"
OTHER = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}"
CHAT = {"path": "a.jsonl", "type": "chat_template"}
TEXT = {"path": "t.jsonl", "type": "completion"}
SHORT = {"max_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
LOW_RANK = {"lora_r": 2, "lora_alpha": 4, "lora_target_linear": True}


def own(template: str, path: str = "a.jsonl") -> dict[str, Any]:
    return {**CHAT, "path": path, "chat_template_jinja": template}


KEPT: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str | None, list[str]]] = {
    # data sets, keys of the recipe, template that is kept (None: the tokenizer's), words of the note
    "nothing said": ([CHAT], {}, None, []),
    "no conversations": ([TEXT], {}, None, []),
    "the recipe's": ([CHAT, TEXT], {"chat_template_jinja": OWN}, OWN, []),
    "the data set's": ([own(OWN)], {}, OWN, ["the chat template of a.jsonl is saved"]),
    "both data sets'": ([own(OWN), TEXT, own(OWN, "b.jsonl")], {}, OWN, ["of a.jsonl and b.jsonl is saved"]),
    "one each": (
        [own(OWN), own(OTHER, "b.jsonl")], {}, None,
        ["the tokenizer's chat template is saved", "a.jsonl and b.jsonl are written by another"],
    ),
    "one as the tokenizer": (
        [CHAT, own(OTHER, "b.jsonl")], {}, None, ["of a.jsonl is saved", "b.jsonl is written by another"],
    ),
    "the recipe's, and another's": (
        [CHAT, own(OTHER, "b.jsonl")], {"chat_template_jinja": OWN}, OWN,
        ["the recipe's chat template is saved", "b.jsonl is written by another"],
    ),
    "left to the recipe": ([{**CHAT, "chat_template": "jinja"}], {"chat_template_jinja": OWN}, OWN, []),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_the_template_of_the_data_is_kept(name: str, tiny_llama_dir: Path) -> None:
    from transformers import AutoTokenizer

    sets, keys, kept, words = KEPT[name]
    recipe = recipe_from_flat({"base_model": str(tiny_llama_dir), "learning_rate": 1e-4, "datasets": sets, **keys})
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    before = tokenizer.chat_template
    if "chat_template_jinja" in keys:
        tokenizer.chat_template = resolve_chat_template(None, keys["chat_template_jinja"], tokenizer=tokenizer)
    taught = taught_template(recipe, tokenizer)
    assert taught.template == (kept or before)
    assert (taught.note is None) == (not words)
    for word in words:
        assert word in str(taught.note)


def test_a_tokenizer_without_a_template_keeps_that_of_the_first_data_set(tiny_llama_dir: Path) -> None:
    from transformers import AutoTokenizer

    sets = [own(OWN), own(OTHER, "b.jsonl")]
    recipe = recipe_from_flat({"base_model": str(tiny_llama_dir), "learning_rate": 1e-4, "datasets": sets})
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    tokenizer.chat_template = None
    taught = taught_template(recipe, tokenizer)
    assert taught.template == OWN
    assert "of a.jsonl is saved" in str(taught.note)
    assert "b.jsonl is written by another" in str(taught.note)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    path.write_text(f"{json.dumps({'messages': turns})}\n" * 4)
    return path


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_it_stands_beside_the_weights_and_goes_with_a_merge(adapter: str, lab: Any, chats: Path) -> None:
    from transformers import AutoTokenizer

    keys = {**SHORT, **({} if adapter == "full" else {"adapter": adapter, **LOW_RANK})}
    if adapter == "qlora":
        keys["load_in_4bit"] = True
    folder = lab.train("run", datasets=[own(OWN, str(chats))], **keys)
    assert AutoTokenizer.from_pretrained(folder).chat_template == OWN
    assert (folder / "chat_template.jinja").read_text() == OWN
    if adapter != "full":
        recipe = read_recipe(folder / "recipe.yaml").recipe
        merged = merge(recipe, out=None, check=False, show=lambda line: None).merge.out
        assert AutoTokenizer.from_pretrained(merged).chat_template == OWN


def test_a_data_set_may_leave_the_text_of_its_template_to_the_recipe(lab: Any, chats: Path) -> None:
    entry = {"path": str(chats), "type": "chat_template", "chat_template": "jinja"}
    shared = lab.recipe("shared", datasets=[entry], chat_template_jinja=OTHER)
    plain = lab.recipe("plain", datasets=[own(OTHER, str(chats))])
    train, _ = prepare_only(read_recipe(shared).recipe)
    same, _ = prepare_only(read_recipe(plain).recipe)
    assert train is not None and same is not None
    assert train.key == same.key
