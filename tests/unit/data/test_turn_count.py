"""Turns and their ends are counted on the tokens that are kept, not on the text that was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axo.data.mask import MaskOptions
from axo.data.messages import Conversation, Message
from axo.data.render import Renderer
from axo.data.sample import Sample, Turns
from axo.data.store import open_store
from axo.data.templates import resolve_chat_template
from axo.data.tokenize import Tokenizing
from axo.data.turn_count import TurnCount
from axo.errors import DataError

TURNS = (("user", "U1"), ("assistant", "A1"), ("user", "U2"), ("assistant", "A2"))
TALK = Conversation(tuple(Message(role, content) for role, content in TURNS))


def counted(tokenizer: Any, *, keep: int | None = None, **mask: Any) -> TurnCount:
    template = resolve_chat_template("chatml", None, tokenizer=tokenizer)
    rendered = Renderer(template, tokenizer=tokenizer, mask=MaskOptions(**mask)).render(TALK)
    (sample,) = Tokenizing(tokenizer).tokenize([rendered]).samples
    count = TurnCount()
    count.add([sample if keep is None else sample.piece(0, len(sample.ids) + keep)])
    return count


def test_trained_turns_and_their_ends_are_counted(tokenizer: Any) -> None:
    count = counted(tokenizer, eot_tokens=("<|im_end|>",))
    assert (count.trained, count.ended) == (2, 2)
    # Two tokens of text, a letter and a figure, and the end.
    assert dict(count.role_tokens) == {"user": 6, "assistant": 6}
    assert dict(count.role_trained) == {"user": 0, "assistant": 6}
    other = counted(tokenizer, eot_tokens=("</s>",))
    assert (other.trained, other.ended) == (2, 0)


def test_an_end_that_is_cut_off_is_no_end(tokenizer: Any) -> None:
    # The text ends with the end of the turn and a line feed.
    assert counted(tokenizer, keep=-1, eot_tokens=("<|im_end|>",)).ended == 2
    count = counted(tokenizer, keep=-2, eot_tokens=("<|im_end|>",))
    assert (count.trained, count.ended) == (2, 1)
    assert dict(count.role_trained) == {"user": 0, "assistant": 5}


KINDS = 2
PLACES = st.integers(0, 9)
RANGES = st.tuples(PLACES, PLACES).map(lambda pair: (min(pair), max(pair)))


@st.composite
def spoken(draw: st.DrawFn) -> Sample:
    """A sample whose turns and ends lie anywhere, also behind it."""
    labels = np.array(draw(st.lists(st.sampled_from([-100, 7]), max_size=8)), dtype=np.int32)
    if draw(st.booleans()):
        return Sample(labels, labels)
    turns = draw(st.lists(st.tuples(st.sampled_from("abc"), RANGES, RANGES, RANGES), max_size=4))
    tokens = np.array([turn[1:] for turn in turns], dtype=np.int64).reshape(-1, 1 + KINDS, 2)
    return Sample(labels, labels, turns=Turns([role for role, *_ in turns], tokens))


def counted_slowly(samples: list[Sample]) -> tuple[list[tuple[str, int]], list[tuple[str, int]], int, int]:
    """Turn by turn, and token by token."""
    tokens: dict[str, int] = {}
    trained: dict[str, int] = {}
    turns = ended = 0
    for sample in samples:
        is_trained = [label != -100 for label in sample.labels.tolist()]
        for role, (own, *ends) in zip(*(sample.turns or Turns([], np.zeros((0, 1, 2)))), strict=True):
            behind = max(last for _, last in (own, *ends))
            if own[0] >= len(is_trained):
                continue
            tokens[role] = tokens.get(role, 0) + len(is_trained[own[0] : behind])
            trained[role] = trained.get(role, 0) + sum(is_trained[own[0] : behind])
            if any(is_trained[own[0] : own[1]]):
                turns += 1
                whole = [is_trained[first:last] for first, last in ends if last <= len(is_trained)]
                ended += any(end and all(end) for end in whole)
    return list(tokens.items()), list(trained.items()), turns, ended


def as_tuple(count: TurnCount) -> tuple[list[tuple[str, int]], list[tuple[str, int]], int, int]:
    return list(count.role_tokens.items()), list(count.role_trained.items()), count.trained, count.ended


@given(samples=st.lists(spoken(), max_size=6), at=st.integers(0, 6))
def test_many_samples_are_counted_as_one_by_one_and_in_parts(samples: list[Sample], at: int) -> None:
    expected = counted_slowly(samples)
    whole, first, second = TurnCount(), TurnCount(), TurnCount()
    whole.add(samples)
    first.add(samples[:at])
    second.add(samples[at:])
    first.merge(second)
    assert as_tuple(whole) == expected
    assert as_tuple(first) == expected


def test_data_whose_every_end_is_cut_off_is_refused(
    prepare_rows: Callable[..., Any], write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "one two three " * 9}]
    path = write_jsonl([{"messages": talk}] * 5)
    whole = prepare_rows(path, type="chat_template", sequence_len=400, root=tmp_path / "whole")
    room = int(open_store(whole.path).lengths.max()) - 4
    with pytest.raises(DataError, match=r"no end of a turn would be trained.*cut off at sequence_len"):
        prepare_rows(
            path, type="chat_template", sequence_len=room, excess_length_strategy="truncate", root=tmp_path / "cut"
        )


def test_counts_by_role_add_up_to_the_trained_tokens_of_what_is_kept(
    prepare_rows: Callable[..., Any], write_jsonl: Callable[..., Path]
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "so " * number}]}
        for number in (1, 5, 90)
    ]
    prepared = prepare_rows(write_jsonl(rows), type="chat_template", sequence_len=60, excess_length_strategy="drop")
    (report,) = prepared.reports
    assert report.samples_dropped_long == 1
    assert sum(report.role_trained.values()) == report.trained_tokens
