"""Streams: what they read is what preparing reads, every buffer follows from its position, nothing is lost unsaid."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from axo.data.ahead import ReadAhead
from axo.data.buffer import Buffer, Position
from axo.data.collate import collate
from axo.data.keep import Count, pieces_kept
from axo.data.look import Looker
from axo.data.messages import Segments
from axo.data.rows import Row
from axo.data.store import open_store
from axo.data.stream import Stream, make_stream, stream_key
from axo.data.tokenize import Tokenizing
from axo.data.unit import Unit
from axo.errors import DataError
from axo.recipe.batch import BatchSection
from axo.recipe.data import DataSection
from axo.recipe.tokenizer import TokenizerSection

WORDS = "the quick brown fox jumps over a lazy dog while seven zebras watch and nobody answers".split()
Make = Callable[..., Stream]


def texts(count: int, *, seed: int = 0, longest: int = 20) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, longest))) for _ in range(count)]


def rows_of(count: int, **options: int) -> list[dict[str, str]]:
    return [{"text": one} for one in texts(count, **options)]


@pytest.fixture
def make(tokenizer: Any) -> Make:
    """Makes the stream of some files of plain text; `packs` make a step, other keys are the recipe's."""

    def run(
        *paths: Path | dict[str, Any],
        packs: int = 4,
        seed: int = 42,
        batch: dict[str, Any] | None = None,
        datasets: bool = False,
        with_tokenizer: Any = None,
        **keys: Any,
    ) -> Stream:
        entries = [path if isinstance(path, dict) else {"path": str(path)} for path in paths]
        given = {"datasets": entries, "streaming": True} if datasets else {"pretraining_dataset": entries}
        return make_stream(
            data=DataSection.model_validate(
                {"sequence_len": 64, "streaming_multipack_buffer_size": 10, **given, **keys}
            ),
            batch=BatchSection.model_validate({"sample_packing": True, **(batch or {})}),
            tokenizer_section=TokenizerSection(),
            tokenizer=with_tokenizer or tokenizer,
            packs_per_step=packs,
            seed=seed,
        )

    return run


def said(buffer: Buffer) -> tuple[Any, ...]:
    """All of a buffer in words that can be compared."""
    every = np.arange(len(buffer.samples))
    ids, labels = (tuple(map(tuple, part(every))) for part in (buffer.samples.ids, buffer.samples.labels))
    steps = tuple(tuple(tuple(pack.tolist()) for pack in packs) for packs in buffer.steps)
    return buffer.start, buffer.num_rows, ids, labels, tuple(buffer.samples.sets.tolist()), steps


def first_epoch(stream: Stream) -> list[Buffer]:
    """The buffers before the second epoch."""
    found: list[Buffer] = []
    for buffer in stream.buffers(Position()):
        if buffer.start.epoch:
            return found
        found.append(buffer)
    raise AssertionError("a stream has no end")


def decoded(buffers: Sequence[Buffer], tokenizer: Any) -> list[str]:
    """The text of each sample in the order of the packs."""
    return [
        tokenizer.decode(ids)
        for buffer in buffers
        for packs in buffer.steps
        for pack in packs
        for ids in buffer.samples.ids(pack)
    ]


@pytest.mark.parametrize("kind", ["byte-level", "adds-bos", "metaspace"])
@pytest.mark.parametrize("sequence_len", [8, 64, 600])
def test_windows_are_those_of_a_tokenizer_with_stride(tokenizers: dict[str, Any], kind: str, sequence_len: int) -> None:
    """The oracle is transformers, called as Axolotl calls it."""
    tokenizer = tokenizers[kind]
    overlap = min(256, (sequence_len - 1) // 2)
    for text in [*texts(12, longest=40), " ".join(texts(150, seed=1)), "", "a"]:
        item = Segments(((text, 1.0),), add_bos=bool(text), add_eos=bool(text), chunk=True, overlap=overlap)
        data = DataSection.model_validate({"datasets": [{"path": "a"}], "sequence_len": sequence_len})
        count = Count()
        samples = Tokenizing(tokenizer).tokenize([item]).samples
        found = [
            piece for pieces in pieces_kept(samples, Unit(Row({}, "a", 1), (item,)), data, count) for piece in pieces
        ]
        expected = tokenizer(
            text, truncation=True, max_length=sequence_len - 1, add_special_tokens=True,
            return_overflowing_tokens=True, stride=overlap,
        )["input_ids"]  # fmt: skip
        assert [piece.ids.tolist() for piece in found] == [[*ids, tokenizer.eos_token_id] for ids in expected if text]
        assert all(np.array_equal(piece.ids, piece.labels) for piece in found)
        assert count.tokens_read == count.tokens_kept + count.tokens_dropped + count.tokens_truncated
        assert count.tokens_kept == sum(len(piece.ids) for piece in found)


@pytest.mark.parametrize("packing", [True, False])
def test_an_epoch_of_a_stream_has_the_samples_that_preparing_makes_each_once(
    make: Make, prepare_rows: Callable[..., Any], write_jsonl: Callable[..., Path], packing: bool
) -> None:
    rows = [{"instruction": one, "output": two} for one, two in zip(texts(47), texts(47, seed=3), strict=True)]
    path = write_jsonl(rows)
    store = open_store(prepare_rows(path, type="alpaca", sequence_len=128, excess_length_strategy="truncate").path)
    stream = make(
        {"path": str(path), "type": "alpaca"}, datasets=True, sequence_len=128, batch={"sample_packing": packing},
        excess_length_strategy="truncate", packs=2, max_lost_tokens=1,
    )  # fmt: skip
    seen: Counter[tuple[Any, ...]] = Counter()
    for buffer in first_epoch(stream):
        for pack in (pack for packs in buffer.steps for pack in packs):
            assert buffer.samples.lengths[pack].sum() <= 128 and (packing or len(pack) == 1)
            pairs = zip(buffer.samples.ids(pack), buffer.samples.labels(pack), strict=True)
            seen.update((tuple(ids), tuple(labels)) for ids, labels in pairs)
    prepared = (store[number] for number in range(len(store)))
    assert seen == Counter((tuple(ids), tuple(labels)) for ids, labels in prepared)


@pytest.mark.parametrize("keys", [{}, {"shuffle_merged_datasets": False}, {"pretrain_multipack_attn": False}])
def test_every_buffer_follows_from_its_position_in_the_first_epoch_and_later(
    make: Make, write_jsonl: Callable[..., Path], keys: dict[str, Any]
) -> None:
    paths = [write_jsonl(rows_of(23), "a.jsonl"), write_jsonl(rows_of(14, seed=1), "b.jsonl")]
    stream = make(*paths, packs=2, **keys)
    buffers = list(islice(stream.buffers(Position()), 10))
    assert [(b.start.epoch, b.start.dataset, b.start.row, b.start.rows) for b in buffers[:6]] == [
        (0, 0, 0, 0), (0, 0, 10, 10), (0, 0, 20, 20), (0, 1, 7, 30), (1, 0, 0, 37), (1, 0, 10, 47),
    ]  # fmt: skip
    for place, buffer in enumerate(buffers):
        again = make(*paths, packs=2, **keys).buffers(buffer.start)
        assert [said(one) for one in islice(again, 3)][: 10 - place] == [
            said(one) for one in buffers[place : place + 3]
        ]


def test_rows_are_mixed_within_a_buffer_alone_and_anew_in_each_epoch(
    make: Make, write_jsonl: Callable[..., Path], tokenizer: Any
) -> None:
    rows = texts(30)
    path = write_jsonl([{"text": row} for row in rows])
    stream = make(path, packs=1, batch={"sample_packing": False})
    buffers = list(islice(stream.buffers(Position()), 6))
    ended = [f"{row}<|im_end|>" for row in rows]
    orders = [decoded([buffer], tokenizer) for buffer in buffers]
    for number, order in enumerate(orders):
        own = ended[10 * (number % 3) : 10 * (number % 3 + 1)]
        assert sorted(order) == sorted(own) and order != own
    places = [
        [ended[10 * (number % 3) :].index(one) for one in order] for number, order in enumerate(orders)
    ]  # no two buffers are mixed alike
    assert len({tuple(place) for place in places}) == 6
    kept = make(path, packs=1, batch={"sample_packing": False}, shuffle_merged_datasets=False)
    assert decoded(first_epoch(kept), tokenizer) == ended
    other = make(path, packs=1, batch={"sample_packing": False}, seed=43)
    assert decoded(first_epoch(other), tokenizer) != [one for order in orders[:3] for one in order]


def test_only_the_last_step_of_a_buffer_has_fewer_packs_and_a_small_buffer_is_read_on(
    make: Make, write_jsonl: Callable[..., Path]
) -> None:
    path = write_jsonl(rows_of(100))
    buffers = first_epoch(make(path, packs=4, streaming_multipack_buffer_size=3))
    for buffer in buffers[:-1]:
        assert len(buffer.steps[0]) == 4
        assert all(len(packs) == 4 for packs in buffer.steps[:-1])
        assert buffer.num_rows % 3 == 0 and buffer.num_rows > 3
    assert sum(buffer.num_rows for buffer in buffers) == 100


def test_the_rows_that_skip_names_are_passed_over_in_every_epoch(
    make: Make, write_jsonl: Callable[..., Path], tokenizer: Any
) -> None:
    path = write_jsonl([{"text": f"row {number}"} for number in range(8)])
    stream = make({"path": str(path), "skip": 5}, shuffle_merged_datasets=False, batch={"sample_packing": False})
    found = decoded(list(islice(stream.buffers(Position()), 2)), tokenizer)
    assert found == [f"row {number}<|im_end|>" for number in (5, 6, 7)] * 2
    with pytest.raises(DataError, match="skip: 9 passes over every row"):
        next(make({"path": str(path), "skip": 9}).buffers(Position()))


def test_samples_that_see_each_other_are_one_for_the_attention(
    make: Make, write_jsonl: Callable[..., Path], tokenizer: Any
) -> None:
    path = write_jsonl(rows_of(20))
    keys = {"shuffle_merged_datasets": False, "batch": {"sample_packing": False}, "packs": 2}
    (apart,) = islice(make(path, **keys).buffers(Position()), 1)
    (together,) = islice(make(path, pretraining_sample_concatenation=True, **keys).buffers(Position()), 1)
    rows: list[list[int]] = [[]]
    for ids in apart.samples.ids(np.arange(len(apart.samples))):
        if len(rows[-1]) + len(ids) > 64:
            rows.append([])
        rows[-1] += ids.tolist()
    packs = [pack for packs in together.steps for pack in packs]
    assert [together.samples.ids(pack)[0].tolist() for pack in packs] == rows and all(len(pack) == 1 for pack in packs)
    batch = collate(together.samples, packs[:2], pad_token_id=2, length=64, multiple_of=None)
    used = len(rows[0])
    assert batch.position_ids[0, :used].tolist() == list(range(used))
    assert batch.targets[0, : used - 1].tolist() == rows[0][1:], "every token but the row's first is predicted"
    assert batch.cu_seqlens[:3].tolist() == [0, used, 64]


def test_packed_samples_see_each_other_only_where_that_is_asked_for(
    make: Make, write_jsonl: Callable[..., Path]
) -> None:
    path = write_jsonl(rows_of(20))
    (apart,) = islice(make(path).buffers(Position()), 1)
    (together,) = islice(make(path, pretrain_multipack_attn=False).buffers(Position()), 1)
    for one, other in zip(apart.steps, together.steps, strict=True):
        for pack, joined in zip(one, other, strict=True):
            assert len(joined) == 1
            assert together.samples.ids(joined)[0].tolist() == np.concatenate(apart.samples.ids(pack)).tolist()


def test_samples_of_two_data_sets_never_see_each_other(make: Make, write_jsonl: Callable[..., Path]) -> None:
    paths = [write_jsonl(rows_of(5), "a.jsonl"), write_jsonl(rows_of(5, seed=1), "b.jsonl")]
    (buffer,) = islice(make(*paths, pretrain_multipack_attn=False).buffers(Position()), 1)
    for pack in (pack for packs in buffer.steps for pack in packs):
        assert len(set(buffer.samples.sets[pack].tolist())) == len(pack)
    assert buffer.samples.num_sets == 2


def test_a_wrong_row_is_an_error_with_its_line_when_its_buffer_is_read(
    make: Make, write_jsonl: Callable[..., Path]
) -> None:
    path = write_jsonl([*rows_of(14), {"texts": "misspelt"}])
    buffers = make(path, packs=1).buffers(Position())
    assert next(buffers).num_rows == 10
    with pytest.raises(DataError) as caught:
        next(buffers)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(path), 15, "text")


def test_data_of_which_nothing_is_left_is_refused_and_not_read_for_ever(
    make: Make, write_jsonl: Callable[..., Path]
) -> None:
    path = write_jsonl([{"text": ""}] * 3)
    with pytest.raises(DataError, match="no token of this data set would be trained: of its 3 rows"):
        next(make(path).buffers(Position()))


def test_lost_tokens_are_told_of_and_refused_above_the_share_that_is_allowed(
    make: Make, write_jsonl: Callable[..., Path]
) -> None:
    rows = [{"instruction": one, "output": one} for one in texts(40)]
    rows[5] = rows[25] = {"instruction": "long " * 300, "output": "answer"}
    entry = {"path": str(write_jsonl(rows)), "type": "alpaca"}
    told: list[str] = []
    stream = make(entry, datasets=True, sequence_len=256, packs=1, max_lost_tokens=1.0)
    list(islice(stream.buffers(Position(), tell=told.append), 4))
    assert len(told) == 2 and "of the 10 rows read so far are lost: 1 sample longer" in told[0]
    assert "of the 30 rows read so far are lost: 2 samples" in told[1]
    strict = make(entry, datasets=True, sequence_len=256, packs=1, max_lost_tokens=0.01)
    with pytest.raises(DataError, match=r"more than max_lost_tokens: 0\.01"):
        next(strict.buffers(Position()))
    late = make(entry, datasets=True, sequence_len=256, packs=1, max_lost_tokens=0.01)
    assert next(late.buffers(Position(row=10))).num_rows == 10, "the rows before were looked at before"


def test_the_key_of_a_stream_changes_with_what_changes_a_token_and_not_with_its_rows(
    make: Make, write_jsonl: Callable[..., Path], new_tokenizer: Callable[..., Any]
) -> None:
    path = write_jsonl([{"text": "a", "more": "b"}])
    key = stream_key(make(path))
    write_jsonl([{"text": "c", "more": "d"}])
    assert stream_key(make(path)) == key
    assert stream_key(make({"path": str(path), "text_column": "more"})) != key
    assert stream_key(make({"path": str(path), "skip": 3})) != key
    assert stream_key(make(path, with_tokenizer=new_tokenizer(eos_token="</s>"))) != key


def test_one_item_is_made_ahead_and_an_error_is_raised_where_it_is_taken() -> None:
    made: list[int] = []
    go_on = Event()

    def items() -> Any:
        for number in range(3):
            made.append(number)
            if number == 1:
                go_on.set()
            yield number
        raise DataError("the end")

    ahead = ReadAhead(items(), cancel=Event())
    assert ahead.take() == 0
    assert go_on.wait(10), "the next one is made before it is asked for"
    assert made == [0, 1]
    assert [ahead.take(), ahead.take()] == [1, 2]
    for _ in range(2):
        with pytest.raises(DataError, match="the end"):
            ahead.take()
    ahead.close()


def test_a_stream_that_is_cancelled_ends(make: Make, write_jsonl: Callable[..., Path]) -> None:
    cancel = Event()
    buffers = make(write_jsonl(rows_of(20)), packs=1).buffers(Position(), cancel=cancel)
    next(buffers)
    cancel.set()
    assert list(buffers) == []


def test_the_windows_of_a_text_are_shown_where_they_begin(make: Make, write_jsonl: Callable[..., Path]) -> None:
    """64 tokens a window, its end-of-sequence token among them, 31 of the one before it: a new one every 32."""
    stream = make(write_jsonl([{"text": " ".join(texts(8, longest=40))}]))
    looker = Looker(stream.preparations[0], data=stream.data, tokenizer=stream.tokenizer)
    (found,) = looker.look(1, next(iter(stream.preparations[0].rows()))).looks
    count = 1 + -(-(len(found.ids) - 1 - 63) // 32)
    assert found.starts == [32 * number for number in range(count)] and count > 2
    assert found.fate == f"cut into {count} pieces of sequence_len (64), each with 31 tokens of the one before it"
    assert found.weights == [0.0] + [1.0] * (len(found.ids) - 1), "each is predicted in one window at least"
