"""Chat templates by name, text or file; the ones axo brings, written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axo.data.preparation import make_preparation
from axo.data.templates import resolve_chat_template
from axo.errors import RecipeError
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection

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


def test_a_file_that_is_no_jinja_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("A\n{% if %}\n")
    for given, where in ((str(path), f"{path}:2 is no Jinja: "), (path.read_text(), "line 2 of the template is no")):
        with pytest.raises(RecipeError) as refused:
            resolve_chat_template(None, given, tokenizer=Tokenizer(None))
        (finding,) = refused.value.findings
        assert finding.key == "chat_template_jinja"
        assert finding.message.startswith(where)


def test_a_broken_template_of_one_data_set_says_which(tokenizer: Any) -> None:
    broken = {"chat_template_jinja": "{% if %}"}
    data = DataSection.model_validate(
        {"datasets": [{"path": "a", "type": "chat_template"}, {"path": "b", "type": "chat_template", **broken}]}
    )
    for entry, section, key in (
        (data.datasets[1], TokenizerSection(), "datasets.1.chat_template_jinja"),
        (
            data.datasets[0].model_copy(update={"chat_template": "jinja"}),
            TokenizerSection.model_validate(broken),
            "chat_template_jinja",
        ),
    ):
        with pytest.raises(RecipeError) as refused:
            make_preparation(entry, data=data, section=section, tokenizer=tokenizer)
        assert refused.value.findings[0].key == key
