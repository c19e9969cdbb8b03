"""Expectations: what is trained of a row, told in text, against answers written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axo.data.expect import Expecting, rows_meant
from axo.data.preparation import make_preparation
from axo.data.rows import Row
from axo.recipe.data import DataSection, Expectation
from axo.recipe.tokenizer import TokenizerSection

END = "<|im_end|>"


@pytest.fixture
def expecting(tokenizer: Any) -> Callable[..., Expecting]:
    """Compares rows of a data set with these keys."""

    def make(
        type_: Any, *, entry: dict[str, Any] | None = None, objective: str | None = None, **data: Any
    ) -> Expecting:
        section = DataSection.model_validate(
            {"datasets": [{"path": "rows.jsonl", "type": type_, **(entry or {})}], **data}
        )
        preparation = make_preparation(
            section.datasets[0], data=section, section=TokenizerSection(), tokenizer=tokenizer, objective=objective
        )
        return Expecting(preparation, data=section, tokenizer=tokenizer)

    return make


def row(**values: Any) -> Row:
    return Row(values, "rows.jsonl", 1)


def chat(*turns: str | dict[str, Any], **more: Any) -> Row:
    """User and assistant in turn."""
    names = ("user", "assistant")
    messages = [
        {"role": names[at % 2], "content": turn} if isinstance(turn, str) else {"role": names[at % 2], **turn}
        for at, turn in enumerate(turns)
    ]
    return row(messages=messages, **more)


def expect(*trained: str, **keys: Any) -> Expectation:
    said = {"trained": list(trained)} if trained else {"untrained": True}
    return Expectation.model_validate({"row": 1, **said, **keys})


PROMPT = {"field_instruction": "q", "field_output": "a", "format": "Q: {instruction}\nA: "}
TRAINED: dict[str, tuple[Any, dict[str, Any], Row, tuple[str, ...]]] = {
    "a conversation": ("chat_template", {}, chat("Hi", "Ho", "He", "Ha ha."), (f"Ho{END}", f"Ha ha.{END}")),
    "without ends": ("chat_template", {"entry": {"train_on_eos": "none"}}, chat("Hi", "Ho"), ("Ho",)),
    "the last end": (
        "chat_template", {"entry": {"train_on_eos": "last"}}, chat("Hi", "Ho", "He", "Ha"), ("Ho", f"Ha{END}"),
    ),
    "inputs too": ("chat_template", {"train_on_inputs": True}, chat("Hi", "Ho"), (f"Hi{END}", f"Ho{END}")),
    "users": ("chat_template", {"entry": {"roles_to_train": ["user"]}}, chat("Hi", "Ho"), (f"Hi{END}",)),
    "a flag": (
        "chat_template", {"entry": {"message_field_training": "train"}},
        chat({"content": "Hi", "train": True}, {"content": "Ho", "train": False}), (f"Hi{END}",),
    ),
    "nobody": (
        "chat_template", {"entry": {"message_field_training": "train"}},
        chat("Hi", {"content": "Ho", "train": False}), (),
    ),
    "an instruction": ("alpaca", {}, row(instruction="Add.", output=" It is 5."), (f" It is 5.{END}",)),
    "its end given": ("alpaca", {}, row(instruction="Add.", output=f"5{END}"), (f"5{END}",)),
    "a mapping": (PROMPT, {}, row(q="1+1", a="2"), (f"2{END}",)),
    "a mapping, all of it": (PROMPT, {"train_on_inputs": True}, row(q="1+1", a="2"), (f"Q: 1+1\nA: 2{END}",)),
    "plain text": ("completion", {}, row(text="All of it.\n"), (f"All of it.\n{END}",)),
    "segments": (
        "input_output", {},
        row(segments=[{"text": t, "label": on} for t, on in (("a", True), ("b", True), ("c", False), ("d", True))]),
        ("ab", "d"),
    ),
    "steps": (
        "stepwise_supervised", {"objective": "process_reward_model"},
        row(prompt="Why?", completions=["One.", "Two."], labels=[True, False]),
        ("One.", "Two."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained_is_told_as_text(name: str, expecting: Any) -> None:
    type_, keys, values, trained = TRAINED[name]
    one = expecting(type_, **keys)
    assert one.mismatch(expect(*trained), values) is None
    for wrong in ((*trained, "more"), trained[:-1], tuple(f"{text} " for text in trained)):
        if wrong != trained:
            assert one.mismatch(expect(*wrong), values) is not None


def test_rows_that_are_tokens_already_are_decoded(expecting: Any, tokenizer: Any) -> None:
    ids = tokenizer.encode("The quick brown fox jumps.")
    start = len(tokenizer.encode("The quick"))
    labels = [-100] * start + ids[start:]
    values = row(input_ids=ids, attention_mask=[1] * len(ids), labels=labels)
    one = expecting(None)
    assert one.mismatch(expect(tokenizer.decode(ids[start:])), values) is None
    found = one.mismatch(expect("The quick"), values)
    assert found is not None


def test_only_whole_tokens_of_a_part_that_is_trained_are_told(expecting: Any, tokenizer: Any) -> None:
    content = "The quick brown fox"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(content))
    begin = content.index("uick")
    inside = [token.replace("Ġ", " ") for token in tokens]
    detail = [{"begin_offset": begin, "end_offset": len(content) - 1, "train": True}]
    one = expecting("chat_template", entry={"message_field_training_detail": "detail", "train_on_eos": "none"})
    at, whole = 0, ""
    for text in inside:
        whole += text if at >= begin else ""
        at += len(text)
    assert one.mismatch(expect(whole), chat("Hi", {"content": content, "detail": detail})) is None


def test_weights_part_stretches_and_are_compared(expecting: Any) -> None:
    values = chat("Hi", {"content": "Ho", "weight": 0.5}, "He", "Ha")
    one = expecting("chat_template", entry={"message_field_training": "weight"})
    assert one.mismatch(expect(f"Ho{END}", f"Ha{END}", weight=[0.5, 1]), values) is None
    assert one.mismatch(expect(f"Ho{END}", f"Ha{END}"), values) is None
    found = one.mismatch(expect(f"Ho{END}", f"Ha{END}", weight=1), values)
    assert found is not None
    assert found.message == f'stretch 1 counts 0.5, expected 1: "Ho{END}"'


def test_either_answer_of_a_pair_may_be_meant(expecting: Any) -> None:
    values = row(
        messages=[{"role": "user", "content": "Hi"}],
        chosen={"role": "assistant", "content": "Ho"},
        rejected={"role": "assistant", "content": "Ha"},
    )
    one = expecting("chat_template.default", objective="dpo")
    assert one.mismatch(expect(f"Ho{END}"), values) is None
    assert one.mismatch(expect(f"Ho{END}", side="chosen"), values) is None
    assert one.mismatch(expect(f"Ha{END}", side="rejected"), values) is None
    assert one.mismatch(expect(f"Ho{END}", side="rejected"), values) is not None


def test_the_difference_comes_with_what_to_write_if_the_data_is_right(expecting: Any) -> None:
    found = expecting("chat_template").mismatch(expect("Ho"), chat("Hi", "Ho\n1"))
    assert found is not None
    assert found.hint == f'if this is right, expect it: trained: "Ho\\n1{END}"'
    assert json.loads(found.hint.partition("trained: ")[2]) == f"Ho\n1{END}"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"sequence_len": 20}, "the row is dropped: it has "),
        ({"sequence_len": 40, "excess_length_strategy": "truncate"}, "the row is cut at sequence_len (40): "),
        ({"min_sample_len": 400, "sequence_len": 4000}, "the row is dropped: it is shorter than min_sample_len (400"),
    ],
)
def test_a_row_that_loses_trained_tokens_by_its_length_is_not_trained_as_expected(
    keys: dict[str, Any], words: str, expecting: Any
) -> None:
    answer = "zebra " * 20
    values = chat("Hi", answer)
    assert expecting("chat_template", sequence_len=4000).mismatch(expect(f"{answer}{END}"), values) is None
    found = expecting("chat_template", **keys).mismatch(expect(f"{answer}{END}"), values)
    assert found is not None
    assert words in found.message
    assert found.hint is None


def test_a_long_text_that_is_cut_into_pieces_loses_nothing(expecting: Any) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    one = expecting("completion", sequence_len=64)
    assert one.mismatch(expect(f"{text}{END}"), row(text=text)) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=2, max_size=5))
def test_answers_and_their_ends_are_expected_and_nothing_else_fits(expecting: Any, turns: list[str]) -> None:
    # The template writes contents as they are; blank ones and such that hold the template's own tokens are left out.
    turns = [f"({turn.replace('<', '')})" for turn in turns]
    one = expecting("chat_template", sequence_len=100_000)
    answers = [f"{turn}{END}" for turn in turns[1::2]]
    assert one.mismatch(expect(*answers), chat(*turns)) is None
    assert one.mismatch(expect(*answers[:-1], answers[-1][:-1]), chat(*turns)) is not None
    assert one.mismatch(expect(), chat(*turns)) is not None


# Which row is meant

ROWS = [
    {"id": 1, "text": "one"},
    {"id": "1", "text": "two", "meta": {"tags": ["x", "y"], "deep": {"k": None}}},
    {"id": 1.0, "text": "three", "a.b": 5},
    {"id": True, "text": "four", "meta": {"tags": ["z"]}},
    {"id": 1, "text": "five"},
]
MEANT: list[tuple[dict[str, Any], int | None]] = [
    ({"row": 1}, 1),
    ({"row": 5}, 5),
    ({"row": 6}, None),
    ({"where": {"id": 1}}, 1),
    ({"where": {"id": "1"}}, 2),
    ({"where": {"id": 1.0}}, 3),
    ({"where": {"id": True}}, 4),
    ({"where": {"id": 1, "text": "five"}}, 5),
    ({"where": {"meta.tags.1": "y"}}, 2),
    ({"where": {"meta.tags.0": "z"}}, 4),
    ({"where": {"meta.tags": ["z"]}}, 4),
    ({"where": {"meta.deep.k": None}}, 2),
    ({"where": {"a.b": 5}}, 3),
    ({"where": {"meta.tags.x": "y"}}, None),
    ({"where": {"missing": None}}, None),
]


@pytest.mark.parametrize(("which", "number"), MEANT)
def test_a_row_is_meant_by_its_number_or_its_fields(
    which: dict[str, Any], number: int | None, write_jsonl: Callable[..., Path], tokenizer: Any
) -> None:
    one = Expectation.model_validate({**which, "trained": "x"})
    found = list(rows_meant(preparations(write_jsonl, tokenizer, ROWS), {7: one}))
    assert [(key, at, values.line) for key, at, values in found] == ([] if number is None else [(7, number, number)])


def test_several_expectations_are_found_in_one_reading(write_jsonl: Callable[..., Path], tokenizer: Any) -> None:
    wanted = [{"row": 4}, {"where": {"text": "two"}}, {"row": 4}, {"row": 9}]
    expectations = {at: Expectation.model_validate({**one, "trained": "x"}) for at, one in enumerate(wanted)}
    found = list(rows_meant(preparations(write_jsonl, tokenizer, ROWS), expectations))
    assert [(key, at) for key, at, _ in found] == [(1, 2), (0, 4), (2, 4)]


def test_rows_are_counted_over_all_files_and_blank_lines_are_none(
    write_jsonl: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.jsonl").write_text('\n{"text": "one"}\n\n{"text": "two"}\n')
    (folder / "b.jsonl").write_text('{"text": "three"}\n')
    one = Expectation.model_validate({"row": 3, "trained": "x"})
    data = DataSection.model_validate({"datasets": [{"path": str(folder), "type": "completion"}]})
    made = make_preparation(data.datasets[0], data=data, section=TokenizerSection(), tokenizer=tokenizer)
    ((_, number, values),) = rows_meant([made], {0: one})
    assert (number, values.values["text"], values.line) == (3, "three", 1)


def preparations(write_jsonl: Callable[..., Path], tokenizer: Any, rows: list[Any]) -> list[Any]:
    data = DataSection.model_validate({"datasets": [{"path": str(write_jsonl(rows)), "type": "completion"}]})
    return [make_preparation(data.datasets[0], data=data, section=TokenizerSection(), tokenizer=tokenizer)]
