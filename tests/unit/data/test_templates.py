"""Chat templates by name, text or file; the ones axo brings, written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axo.data.templates import resolve_chat_template
from axo.errors import RecipeError

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": " Hi\n"},
    {"role": "assistant", "content": "Ho "},
]
WRITTEN = {
    "chatml": (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
        "<|im_start|>assistant\nHo <|im_end|>\n",
        "<|im_start|>assistant\n",
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_template_writes_its_familys_format(name: str, tokenizer: Any) -> None:
    template = resolve_chat_template(name, None, tokenizer=tokenizer)
    text, prompt = WRITTEN[name]
    assert tokenizer.apply_chat_template(TALK, chat_template=template, tokenize=False) == text
    asked = tokenizer.apply_chat_template(TALK, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert asked == text + prompt


class Tokenizer:
    def __init__(self, chat_template: Any) -> None:
        self.chat_template = chat_template


def test_names_choose_the_template(tmp_path: Path) -> None:
    own, bare = Tokenizer("{{ own }}"), Tokenizer(None)
    chatml = resolve_chat_template("chatml", None, tokenizer=bare)
    (tmp_path / "my.jinja").write_text("{{ mine }}")
    assert resolve_chat_template(None, None, tokenizer=own) == "{{ own }}"
    assert resolve_chat_template("tokenizer_default", None, tokenizer=own) == "{{ own }}"
    assert resolve_chat_template(None, None, tokenizer=Tokenizer({"default": "{{ d }}", "tool_use": "x"})) == "{{ d }}"
    assert resolve_chat_template("tokenizer_default_fallback_chatml", None, tokenizer=own) == "{{ own }}"
    assert resolve_chat_template("tokenizer_default_fallback_chatml", None, tokenizer=bare) == chatml
    assert resolve_chat_template("chatml", None, tokenizer=own) == chatml
    assert resolve_chat_template("jinja", "{{ text }}", tokenizer=own) == "{{ text }}"
    assert resolve_chat_template(None, str(tmp_path / "my.jinja"), tokenizer=own) == "{{ mine }}"


@pytest.mark.parametrize(
    ("name", "jinja", "key", "says"),
    [
        (None, None, "chat_template", "the tokenizer has no chat template"),
        ("tokenizer_default", None, "chat_template", "the tokenizer has no chat template"),
        ("jinja", None, "chat_template", "`jinja` needs a template"),
        ("lama3", None, "chat_template", "did you mean 'llama3'"),
        ("tokenizer_default_fallback_x", None, "chat_template", "unknown template 'x'"),
        (None, "nowhere.jinja", "chat_template_jinja", "neither Jinja text nor a file"),
    ],
)
def test_a_template_that_is_not_there_is_a_fault_of_the_recipe(
    name: str | None, jinja: str | None, key: str, says: str
) -> None:
    with pytest.raises(RecipeError) as refused:
        resolve_chat_template(name, jinja, tokenizer=Tokenizer(None))
    assert refused.value.findings[0].key == key
    assert says in str(refused.value)
