"""Formats that have no file, or more than their keys, behind their samples: what is prepared, and when anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axo.data.prepare import Prepared
from axo.data.store import Store

Prepare = Callable[..., Prepared]


def samples(prepared: Prepared) -> list[list[int]]:
    store = Store(prepared.path)
    return [ids.tolist() for ids in store.ids(np.arange(len(store)))]


def test_rows_are_made_up_whatever_the_path_says(prepare_rows: Prepare) -> None:
    keys = {"length": 4, "sequence_length": 6, "min_input_id": 10, "max_input_id": 90}
    one = prepare_rows(Path("nowhere/at all"), type="_synthetic", entry={**keys, "seed": 1})
    assert samples(one) == np.random.default_rng(1).integers(10, 90, size=(4, 6)).tolist()
    assert (one.reports[0].rows, one.reports[0].trained_tokens) == (4, 4 * 5)
    assert prepare_rows(Path("elsewhere"), type="_synthetic", entry={**keys, "seed": 1}).from_cache
    assert prepare_rows(Path("nowhere"), type="_synthetic", entry={**keys, "seed": 2}).key != one.key


def test_rows_without_a_type_are_taken_as_tokens(prepare_rows: Prepare) -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9, 0], "attention_mask": [1, 1, 0]}]
    prepared = prepare_rows(rows, type=None)
    assert samples(prepared) == [[5, 6, 7], [8, 9]]
    assert prepared.reports[0].trained_tokens == 3


def test_rows_are_prepared_anew_when_the_code_that_reads_them_changes(
    prepare_rows: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = tmp_path / "reader_that_changes.py"

    def prepared(text: str) -> Prepared:
        module.write_text(text, encoding="utf-8")
        sys.modules.pop(module.stem, None)
        sys.path_importer_cache.clear()
        entry = {"allow_custom_code": True}
        return prepare_rows([{"x": "Hi"}], type=f"{module.stem}.to_row", entry=entry)

    plain = "def to_row(row): return {'segments': [{'text': row['x'], 'label': True}]}\n"
    first = prepared(plain)
    assert prepared(plain).from_cache
    other = prepared(plain.replace("row['x']", "row['x'] + ' there, all of you'"))
    sys.modules.pop(module.stem, None)
    assert other.key != first.key
    assert len(samples(other)[0]) > len(samples(first)[0])


def test_code_may_give_messages_where_there_is_a_chat_template(
    prepare_rows: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "reader_of_chats.py").write_text(
        "def to_row(row):\n"
        "    return {'messages': [{'role': 'user', 'content': row['q']}, {'role': 'assistant', 'content': row['a']}]}\n"
    )
    entry = {"allow_custom_code": True}
    prepared = prepare_rows([{"q": "Hi", "a": "Ho"}], type="reader_of_chats.to_row", entry=entry)
    sys.modules.pop("reader_of_chats", None)
    (ids,) = samples(prepared)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert ids == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
