"""Whatever bytes a data file holds: it is prepared by the rules, or refused by a DataError that says where and what."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from axo.data.prepare import prepare
from axo.data.store import open_store
from axo.errors import DataError
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection

CALL = {"type": "function", "id": "a1", "function": {"name": "add", "arguments": '{"x": [1, 2]}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
ALPACA = {"instruction": "Add one.", "input": "1", "output": "2"}
CHAT = {
    "system": "Be kind.",
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "Add one to 1.", "train": False, "name": "Bo"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "2", "tool_call_id": "a1"},
        {"role": "assistant", "content": "It is 2.", "reasoning_content": "Hm.", "train": True},
    ],
}
MAPPING = {
    "field_instruction": "question",
    "field_output": "answer",
    "field_system": "system",
    "format": "{instruction}",
}
WRITES_CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
    "{{ (c.function or c) | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
)
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alpaca": ({"type": "alpaca"}, ALPACA),
    "chat": ({"type": "chat_template"}, CHAT),
    "chat with calls": (
        {"type": "chat_template", "chat_template_jinja": WRITES_CALLS, "message_field_training": "train"}, CHAT
    ),
    "completion": ({"type": "completion"}, {"text": "One and one make two."}),
    "input_output": (
        {"type": "input_output"}, {"segments": [{"text": "1 + 1 =", "label": False}, {"text": " 2", "label": True}]}
    ),
    "mapping": ({"type": MAPPING}, {"question": "What follows 1?", "answer": "2", "system": "Be kind."}),
}  # fmt: skip
SUFFIXES = (".jsonl", ".json", ".csv", ".txt")

DEEP, DIGITS = "[" * 3000 + "]" * 3000, "1" * 5000
RAW = {"@deep": DEEP, "@digits": DIGITS, "@half": '"\\ud83d"', "@huge": "-1e999"}
"""Texts that become JSON which Python's own writer does not write."""
TEXTS = st.text(max_size=6) | st.sampled_from(
    ["\ud83d", "\0", "user", "assistant", "[{", "null", "<|im_end|>", "{x}", DEEP, DIGITS, '["\\ud83d"]', *RAW]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "function", "name", "text", "label"]) | TEXTS, inner)
    ),
    max_leaves=5,
)
PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\ud83d",
     b"1" * 5000, b"[" * 3000, b'{"text":"a"}', b"text\n", b"\x1f\x8b", b"\xff\xfe", b"NaN", b"-", b"1e999", b" ",
     "é🙂\u2028".encode()]
)  # fmt: skip
BYTES = st.binary(max_size=80) | st.lists(PIECES | st.binary(max_size=3), max_size=12).map(b"".join)


@st.composite
def damaged_rows(draw: st.DrawFn, row: dict[str, Any]) -> bytes:
    """Lines of good and mutated rows; sometimes a few bytes of them are changed."""
    rows = [row]
    for _ in range(draw(st.integers(1, 3))):
        rows.append(copy.deepcopy(row))
        for _ in range(draw(st.integers(1, 2))):
            _mutate(rows[-1], draw)
    content = b"".join(json.dumps(each).encode() + b"\n" for each in rows)
    for text, said in RAW.items():
        content = content.replace(json.dumps(text).encode(), said.encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at, length = draw(st.integers(0, len(content))), draw(st.integers(0, 3))
        content = content[:at] + draw(PIECES | st.binary(max_size=2)) + content[at + length :]
    return content


def _mutate(row: dict[str, Any], draw: st.DrawFn) -> None:
    """One place of the row, however deep, is exchanged, left out, doubled or written as JSON in a text."""
    places = list(_places(row))
    if not places:
        return
    inside, key = draw(st.sampled_from(places))
    kind = draw(st.sampled_from(["exchange", "exchange", "out", "more", "as text"]))
    if kind == "out":
        del inside[key]
    elif kind == "as text":
        inside[key] = json.dumps(inside[key])
    elif kind == "exchange":
        inside[key] = draw(VALUES)
    elif isinstance(inside, list):
        inside.append(draw(VALUES))
    else:
        inside[draw(TEXTS)] = draw(VALUES)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key or index below a value, with what it stands in."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


class Trial:
    """Prepares any bytes, and lets nothing pass but good samples or a good refusal."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self._folder, self._tokenizer = folder, tokenizer

    def __call__(self, content: bytes, entry: dict[str, Any], suffix: str) -> bool:
        """Whether the file was prepared."""
        path = self._folder / f"rows{suffix}"
        path.write_bytes(content)
        section = DataSection.model_validate({"datasets": [{"path": str(path), **entry}], "sequence_len": 300})
        try:
            prepared = prepare(
                section.datasets,
                data=section,
                tokenizer_section=TokenizerSection(),
                tokenizer=self._tokenizer,
                root=self._folder / "prepared",
            )
        except DataError as error:
            assert error.file == str(path)  # noqa: PT017
            assert error.message.startswith(f"{path}:") and "\n" not in error.message  # noqa: PT017
            assert error.hint  # noqa: PT017
            str(error).encode("utf-8", "backslashreplace")
            return False
        store = open_store(prepared.path)
        for number in range(len(store)):
            ids, labels = store[number]
            assert np.all((labels == -100) | (labels == ids))
        (report,) = prepared.reports
        assert report.tokens_read == report.tokens_kept + report.tokens_dropped + report.tokens_truncated
        return True


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Trial:
    return Trial(tmp_path_factory.mktemp("anything"), tokenizer)


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_that_are_mutated_are_good_ones(form: str, trial: Trial) -> None:
    entry, row = FORMS[form]
    if form == "chat":  # chatml leaves tool calls out, and a call that is to be trained must not be lost
        row = {"messages": row["messages"][-1:]}
    assert trial(json.dumps(row).encode(), entry, ".jsonl")


def of_any_bytes(examples: int) -> Callable[..., Any]:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def check_bytes(trial: Trial, content: bytes, form: str, suffix: str) -> None:
    trial(content, FORMS[form][0], suffix)


def check_rows(trial: Trial, data: st.DataObject, form: str) -> None:
    entry, row = FORMS[form]
    trial(data.draw(damaged_rows(row)), entry, data.draw(st.sampled_from([".jsonl", ".json"])))


@of_any_bytes(150)
@example(b"", "completion", ".csv")
@example(b"\n", "alpaca", ".json")
@example(b"a\rb\r\n", "completion", ".csv")
@given(content=BYTES, form=st.sampled_from(list(FORMS)), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_prepared_or_refused(trial: Trial, content: bytes, form: str, suffix: str) -> None:
    check_bytes(trial, content, form, suffix)


@pytest.mark.parametrize("form", FORMS)
@of_any_bytes(60)
@given(data=st.data())
def test_mutated_rows_are_prepared_or_refused(trial: Trial, form: str, data: st.DataObject) -> None:
    check_rows(trial, data, form)


@pytest.mark.slow
@of_any_bytes(5000)
@given(content=BYTES, form=st.sampled_from(list(FORMS)), suffix=st.sampled_from(SUFFIXES))
def test_many_more_bytes_are_prepared_or_refused(trial: Trial, content: bytes, form: str, suffix: str) -> None:
    check_bytes(trial, content, form, suffix)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@of_any_bytes(2000)
@given(data=st.data())
def test_many_more_mutated_rows_are_prepared_or_refused(trial: Trial, form: str, data: st.DataObject) -> None:
    check_rows(trial, data, form)
