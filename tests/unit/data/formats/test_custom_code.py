"""Code of the recipe's own: found, called, checked; what goes wrong in it is a fault at a place, never a traceback."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from axo.data.formats.code_of_recipe import load_code
from axo.data.formats.custom_code import CustomCode
from axo.data.formats.format import Setting
from axo.data.messages import Conversation, Segments, Tokens
from axo.data.preparation import make_preparation
from axo.data.rows import Row
from axo.errors import DataError, RecipeError
from axo.recipe.data import DataSection, DatasetEntry
from axo.recipe.tokenizer import TokenizerSection

Make = Callable[..., CustomCode]


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any, request: pytest.FixtureRequest
) -> Iterator[Make]:
    """The format of a type, with a module of this text in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = f"reader_{abs(hash(request.node.name))}"

    def made(text: str, ending: str = "", *, vocab_size: int = 600, **entry: Any) -> CustomCode:
        (tmp_path / f"{module}.py").write_text(dedent(text))
        section = DatasetEntry(path="x", type=module + ending, **{"allow_custom_code": True, **entry})
        return CustomCode(section, Setting(tokenizer=tokenizer, vocab_size=vocab_size, sequence_len=77))

    yield made
    sys.modules.pop(module, None)


def read(form: CustomCode, **values: Any) -> Any:
    return form.read(Row(values, "x.jsonl", 6))


def test_a_function_may_give_messages_segments_or_tokens(make: Make) -> None:
    form = make(
        """
        def to_row(row):
            return row["given"]
        """,
        ".to_row",
    )
    conversation = read(form, given={"messages": [{"role": "user", "content": "Hi"}]})
    assert isinstance(conversation, Conversation)
    assert [(message.role, message.content) for message in conversation.messages] == [("user", "Hi")]
    segments = read(form, given={"segments": [{"text": "Hi", "label": False}, {"text": "Ho", "weight": 0.5}]})
    assert segments == Segments((("Hi", 0.0), ("Ho", 0.5)), add_bos=False, add_eos=False)
    assert read(form, given={"input_ids": [5, 6], "labels": [-100, 6]}) == Tokens([5, 6], [-100, 6])


def test_a_strategy_of_axolotl_is_called_as_axolotl_calls_it(make: Make) -> None:
    form = make(
        """
        import numpy as np

        class Strategy:
            def __init__(self, tokenizer, cfg, ds_cfg):
                self.tokenizer, self.cfg, self.ds_cfg = tokenizer, cfg, ds_cfg

            def tokenize_prompt(self, prompt):
                ids = self.tokenizer(prompt["text"], add_special_tokens=False)["input_ids"]
                assert self.cfg.sequence_len == 77 and self.cfg.train_on_inputs is False
                assert self.ds_cfg["field"] == "body"
                labels = np.array(ids + [-100])
                return {"input_ids": ids + [0], "attention_mask": [1] * len(ids) + [0], "labels": labels}

        def load(tokenizer, cfg, ds_cfg=None):
            return Strategy(tokenizer, cfg, ds_cfg)

        def load_other(tokenizer, cfg):
            return lambda row: {"input_ids": [7, 8]}
        """,
        field="body",
    )
    tokens = read(form, text="Hi there")
    assert tokens.ids == tokens.labels
    assert len(tokens.ids) > 1 and 0 not in tokens.ids


def test_a_loader_is_named_behind_its_module(make: Make) -> None:
    form = make(
        """
        def load_other(tokenizer, cfg):
            return lambda row: {"input_ids": [7, 8]}
        """,
        ".load_other",
    )
    assert read(form) == Tokens([7, 8], [7, 8])


def test_a_failure_names_the_row_and_the_line_of_the_code(make: Make) -> None:
    form = make(
        """
        def to_row(row):
            return {"segments": row["missing"]}
        """,
        ":to_row",
    )
    with pytest.raises(DataError) as refused:
        read(form, text="x")
    assert refused.value.message.startswith("x.jsonl:6: reader_")
    assert "failed: KeyError: 'missing'" in refused.value.message
    assert refused.value.message.endswith(".py:3)")


GIVEN = {
    "nothing": ("None", "gave null for this row"),
    "a text": ("'Hi'", "gave text 'Hi' for this row"),
    "other keys": ("{'text': 'Hi'}", "gave an object with text for this row"),
    "wrong segments": (
        "{'segments': [{'text': 5, 'label': True}]}",
        "gave, segments[0].text: expected text, found the",
    ),
    "a token that is none": ("{'input_ids': [5, 600]}", "gave, input_ids[1]: 600 is no token"),
    "a wrong message": ("{'messages': [{'role': 'user'}]}", "gave, messages[0].content: this field is missing"),
    "an exit": ("exit(3)", "failed: SystemExit: 3"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_the_code_gives_is_checked(name: str, make: Make) -> None:
    value, says = GIVEN[name]
    form = make(f"def to_row(row):\n    return {value}\n", ".to_row")
    with pytest.raises(DataError) as refused:
        read(form, text="x")
    assert says in refused.value.message
    assert (refused.value.file, refused.value.line) == ("x.jsonl", 6)


BROKEN = {
    "no such module": ("", ".inner.to_row", "there is no module"),
    "no such function": ("", ".to_row", "has no 'to_row'"),
    "no load": ("", "", "has no 'load'"),
    "a class": ("class Rows: pass", ":Rows", "but not as a function, 'Rows'"),
    "wrong Python": ("def to_row(row:\n", ".to_row", "SyntaxError"),
    "another module that is missing": ("import axolotl_is_not_here", ".to_row", "axolotl_is_not_here"),
    "a failing import": ("x = 1 / 0", ".to_row", "ZeroDivisionError: division by zero"),
    "a failing loader": ("def load(tokenizer, cfg): raise ValueError('no')", "", "failed: ValueError: no"),
    "a loader without use": ("def load(tokenizer, cfg): return 5", "", "gave int, which cannot read a row"),
    "a strategy for batches": (
        "class S:\n    supports_batched = True\ndef load(tokenizer, cfg): return S()", "", "batches of rows",
    ),
    "a wrapper of data sets": (
        "class S:\n    def wrap_dataset(self): pass\ndef load(tokenizer, cfg): return S()", "", "cannot read a row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_code_that_cannot_be_used_is_a_fault_of_the_recipe(name: str, make: Make) -> None:
    text, ending, says = BROKEN[name]
    with pytest.raises(RecipeError) as refused:
        make(text, ending)
    (finding,) = refused.value.findings
    assert finding.key == "datasets.type"
    assert says in finding.message
    assert finding.hint


def test_code_does_not_run_unless_the_recipe_allows_it(make: Make, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refused:
        make(f"open({str(tmp_path / 'ran')!r}, 'w')", ".to_row", allow_custom_code=False)
    assert "allow_custom_code: true" in str(refused.value)
    assert not (tmp_path / "ran").exists()


def test_example_rows_are_the_modules_own_or_missing(make: Make) -> None:
    text = "def to_row(row): return row\n"
    with pytest.raises(RecipeError, match="gives no example rows"):
        make(text, ".to_row").example_rows(2)


def test_example_rows_come_from_the_module(make: Make) -> None:
    text = "def to_row(row): return row\ndef example_rows(count): return [{'input_ids': [n]} for n in range(count)]\n"
    assert make(text, ".to_row").example_rows(2) == [{"input_ids": [0]}, {"input_ids": [1]}]


def test_the_fingerprint_changes_with_the_text_of_the_module(make: Make) -> None:
    text = "def to_row(row): return row\n"
    one, again = make(text, ".to_row").fingerprint, make(text, ".to_row").fingerprint
    assert one == again
    assert make(text + "# changed\n", ".to_row").fingerprint != one


def test_the_fingerprint_changes_with_a_module_that_the_module_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows_of_mine.py").write_text("from parts_of_mine import OPENING\n\ndef to_row(row):\n    return row\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for opening in ("a", "b", "a"):
        (tmp_path / "parts_of_mine.py").write_text(f"OPENING = {opening!r}\n")
        for name in ("rows_of_mine", "parts_of_mine"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        found.append(load_code("rows_of_mine.to_row").fingerprint)
    assert found[0] == found[2] != found[1]


SHOWN = """
def load(tokenizer, cfg, ds_cfg):
    return lambda row: {"input_ids": [5], "labels": [5]} | {"seen": print(sorted(ds_cfg))}
"""
HIDDEN = """
def load(tokenizer, cfg):
    return lambda row: {"input_ids": [5], "labels": [5]}
"""


@pytest.mark.parametrize("key", ["split", "shards", "revision", "data_files"])
def test_what_the_code_is_shown_of_its_entry_is_part_of_the_cache_key(key: str, make: Make) -> None:
    values = {"split": ["a", "b"], "shards": [2, 3], "revision": ["a", "b"], "data_files": [["a"], ["b"]]}[key]
    prints = [make(SHOWN, **{key: value}).fingerprint for value in values]
    assert prints[0] != prints[1]
    assert make(SHOWN, **{key: values[0]}).fingerprint == prints[0]


def test_what_the_code_is_not_shown_is_not(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = make(SHOWN, weight=0.5), make(SHOWN, weight=2.0, repeat=3)
    assert one.fingerprint == other.fingerprint
    read(other)
    assert capsys.readouterr().out == "['allow_custom_code', 'path', 'type']\n"


def test_a_function_that_is_shown_nothing_shares_its_data(make: Make) -> None:
    assert make(HIDDEN, split="a").fingerprint == make(HIDDEN, split="b").fingerprint


def test_a_fault_says_which_data_set_names_the_code(tokenizer: Any) -> None:
    entries = [{"path": "a", "type": "alpaca"}, {"path": "b", "type": "no_module_of_this_name.f"}]
    data = DataSection.model_validate({"datasets": [{**one, "allow_custom_code": True} for one in entries]})
    with pytest.raises(RecipeError) as refused:
        make_preparation(data.datasets[1], data=data, section=TokenizerSection(), tokenizer=tokenizer)
    assert refused.value.findings[0].key == "datasets.1.type"
