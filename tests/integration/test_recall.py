"""Prepared data is found again without a tokenizer, but only while everything that makes its tokens is as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axo.model.tiny import make_tiny_model
from axo.recipe.read import read_recipe
from axo.workflows import prepare as workflow
from axo.workflows.prepare import prepare_only

ROWS = [
    {"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"{n + 1}"}]}
    for n in range(9)
]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"


def write_rows(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recall")
    write_rows(folder / "rows.jsonl", ROWS)
    make_tiny_model(
        folder / "base", text=[folder / "rows.jsonl"], vocab_size=300, hidden_size=16, num_attention_heads=2
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "base", tmp_path / "base")
    shutil.copy(made / "rows.jsonl", tmp_path / "rows.jsonl")
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    return tmp_path


@pytest.fixture
def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, bool]]:
    """Prepares the recipe with these keys; gives what was prepared, and whether a tokenizer was loaded for it."""
    loads: list[None] = []
    real = workflow.tokenizer_of
    monkeypatch.setattr(workflow, "tokenizer_of", lambda recipe: (loads.append(None), real(recipe))[1])

    def run(**keys: Any) -> tuple[Any, bool]:
        entry = {"path": str(folder / "rows.jsonl"), "type": "chat_template"}
        recipe = {
            "base_model": str(folder / "base"), "learning_rate": 1e-3, "datasets": [entry], "chat_template": "jinja",
            "chat_template_jinja": str(folder / "chat.jinja"), "dataset_prepared_path": str(folder / "prepared"),
            "output_dir": str(folder / "out"), "eot_tokens": ["<|im_end|>"], **keys,
        }  # fmt: skip
        path = folder / "recipe.json"
        path.write_text(json.dumps(recipe))
        loads.clear()
        train, _ = prepare_only(read_recipe(path).recipe)
        return train, bool(loads)

    return run


def test_the_second_time_no_tokenizer_is_loaded(prepared: Callable[..., Any]) -> None:
    first, loaded = prepared()
    assert (first.from_cache, loaded) == (False, True)
    second, loaded = prepared(output_dir="elsewhere", learning_rate=1e-5, num_epochs=3)
    assert (second.from_cache, loaded, second.path, second.reports) == (True, False, first.path, first.reports)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


CHANGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "a row": lambda folder: edit(folder / "rows.jsonl", "3 + 1?", "5 + 1?") or {},
    "the template": lambda folder: edit(folder / "chat.jinja", "{{ m.role }}", "{{ m.role }}:") or {},
    "the tokenizer": lambda folder: edit(folder / "base" / "tokenizer_config.json", "{", '{"x": 1,') or {},
    "sequence_len": lambda folder: {"sequence_len": 64},
    "what is trained": lambda folder: {"train_on_inputs": True},
    "a special token": lambda folder: {"special_tokens": {"pad_token": "<|pad|>"}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_that_may_change_a_token_is_looked_at(what: str, prepared: Callable[..., Any], folder: Path) -> None:
    prepared()
    keys = CHANGES[what](folder)
    assert prepared(**keys)[1], "a tokenizer is loaded, which tells whether the data is another one"


def test_a_file_that_changes_while_data_is_prepared_is_not_remembered(
    prepared: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workflow.prepare

    def slow(*args: Any, **keys: Any) -> Any:
        edit(folder / "rows.jsonl", "3 + 1?", "5 + 1?")
        return real(*args, **keys)

    monkeypatch.setattr(workflow, "prepare", slow)
    other, _ = prepared()
    monkeypatch.setattr(workflow, "prepare", real)
    edit(folder / "rows.jsonl", "5 + 1?", "3 + 1?")
    again, loaded = prepared()
    assert loaded
    assert again.key != other.key


def test_doubts_are_said_each_time(prepared: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    said = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("WARNING", logger="axo"):
            prepared(eot_tokens=["<|im_end|>", "<|im_start|>", "<|pad|>"])
        said.append([record.message for record in caplog.records])
    assert said[0] == said[1] != []


def test_equal_data_of_another_name_is_called_by_its_own(prepared: Callable[..., Any], folder: Path) -> None:
    first, _ = prepared()
    shutil.copy(folder / "rows.jsonl", folder / "other.jsonl")
    entry = {"path": str(folder / "other.jsonl"), "type": "chat_template"}
    for _ in range(2):
        second, _ = prepared(datasets=[entry])
        assert second.path == first.path
        assert second.reports[0].path.endswith("other.jsonl")
