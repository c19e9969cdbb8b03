"""Counting exact answers, with a model whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from axo.errors import DataError
from axo.infer.exact_match import ExactMatch, exact_match
from axo.infer.generate import GenerationSettings, chat_reply, load_for_inference

SETTINGS = GenerationSettings(max_new_tokens=6)
QUESTIONS = ["7", "What is the date?", "a", "How quickly do zebras jump?", "42 and 1", "The dog is lazy."]


def row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def model(tiny_llama_dir: Path) -> Any:
    return load_for_inference(tiny_llama_dir)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama_dir)


@pytest.fixture(scope="module")
def replies(model: Any, tokenizer: Any) -> list[str]:
    """What the model says to each question, asked alone."""
    return [
        chat_reply(model, tokenizer=tokenizer, messages=[{"role": "user", "content": text}], settings=SETTINGS)
        for text in QUESTIONS
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_answers_are_counted_whatever_the_batches(
    model: Any, tokenizer: Any, replies: list[str], batch_size: int
) -> None:
    wrong: Iterator[int] = iter((1, 4))
    answers = list(replies)
    for index in wrong:
        answers[index] = replies[index] + "?"
    rows = [row(question, answer) for question, answer in zip(QUESTIONS, answers, strict=True)]
    found = exact_match(model, tokenizer=tokenizer, rows=rows, settings=SETTINGS, batch_size=batch_size)
    assert found == ExactMatch(correct=4, total=6, majority_baseline=None)
    assert found.share == pytest.approx(4 / 6)


def test_the_majority_baseline_always_gives_the_most_frequent_training_answer(model: Any, tokenizer: Any) -> None:
    training = [row("q", answer) for answer in ("red", "blue", "blue", "green")]
    rows = [row("q", answer) for answer in ("blue", "red", "blue", "red", "red")]
    found = exact_match(model, tokenizer=tokenizer, rows=rows, settings=SETTINGS, training_rows=training)
    assert found.majority_baseline == pytest.approx(2 / 5)


def test_blanks_around_an_answer_do_not_count(model: Any, tokenizer: Any, replies: list[str]) -> None:
    found = exact_match(model, tokenizer=tokenizer, rows=[row("7", f"  {replies[0]}\n")], settings=SETTINGS)
    assert found.correct == 1


@pytest.mark.parametrize(
    "bad",
    [{}, {"messages": []}, {"messages": [{"role": "user", "content": "x"}] * 2}, {"messages": [{"role": "user"}]}],
)
def test_a_row_without_an_answer_is_refused(model: Any, tokenizer: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="messages"):
        exact_match(model, tokenizer=tokenizer, rows=[bad], settings=SETTINGS)


def test_no_row_at_all_is_refused(model: Any, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no row"):
        exact_match(model, tokenizer=tokenizer, rows=[], settings=SETTINGS)
