"""How often a model's greedy answer is exactly the expected one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axo.errors import DataError
from axo.infer.generate import GenerationSettings, chat_replies

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ExactMatch:
    """Counts over the test rows."""

    correct: int
    total: int
    majority_baseline: float | None
    """Share of test rows whose expected answer is the most frequent answer of the training rows: what always giving
    that one answer would score. None where no training rows were given."""

    @property
    def share(self) -> float:
        return self.correct / self.total


def exact_match(
    model: Any,
    *,
    tokenizer: Any,
    rows: Sequence[Row],
    settings: GenerationSettings,
    training_rows: Sequence[Row] = (),
    batch_size: int = 64,
) -> ExactMatch:
    """Ask the model each row's conversation without its last message, and compare the reply with that message.

    `rows` are chat rows: `messages`, the last one the expected answer; blanks around an answer do not count. Rows of
    similar length go into one batch, so that little is padded. Raises DataError where there is no row or
    a row is not of that shape.
    """
    if not rows:
        raise DataError("there is no row to test on")
    expected = [_answer(row) for row in rows]
    correct = 0
    for picked in _batches(rows, batch_size=batch_size):
        questions = [rows[index]["messages"][:-1] for index in picked]
        replies = chat_replies(model, tokenizer=tokenizer, conversations=questions, settings=settings)
        correct += sum(reply.strip() == expected[index] for index, reply in zip(picked, replies, strict=True))
    return ExactMatch(correct=correct, total=len(rows), majority_baseline=_majority(expected, training_rows))


def _answer(row: Row) -> str:
    messages = row.get("messages")
    if not messages or len(messages) < 2 or messages[-1].get("role") != "assistant":
        raise DataError("expected a question and, last, the assistant's answer", field="messages")
    return messages[-1]["content"].strip()


def _batches(rows: Sequence[Row], *, batch_size: int) -> Iterator[list[int]]:
    """Indices of rows, sorted by the length of the question in characters."""
    lengths = [sum(len(message["content"]) for message in row["messages"][:-1]) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: lengths[index])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _majority(expected: Sequence[str], training_rows: Sequence[Row]) -> float | None:
    if not training_rows:
        return None
    ((answer, _),) = Counter(_answer(row) for row in training_rows).most_common(1)
    return sum(text == answer for text in expected) / len(expected)
