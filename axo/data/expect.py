"""What a recipe expects to be trained of a row, compared with what preparing makes of it: the same code does both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from axo.data.difference import difference, visible
from axo.data.encode import Encoder
from axo.data.keep import Count, pieces_kept
from axo.data.mask import Span
from axo.data.messages import Segments, Steps, Tokens
from axo.data.preparation import Preparation
from axo.data.render import Rendered
from axo.data.rows import Row
from axo.data.sample import count_trained
from axo.data.store import SIDES
from axo.data.tokenize import Item, Tokenizing
from axo.data.unit import Unit, make_renderer, unit
from axo.types import IGNORE_INDEX

if TYPE_CHECKING:
    from axo.recipe.data import DataSection, Expectation


class Stretch(NamedTuple):
    """Trained text that ends where something is not trained, or counts otherwise."""

    text: str
    weight: float = 1.0


class Mismatch(NamedTuple):
    message: str
    hint: str | None = None


class Expecting:
    """Compares rows of one data set with what is expected of them."""

    def __init__(self, preparation: Preparation, *, data: DataSection, tokenizer: Any) -> None:
        self._preparation = preparation
        self._data = data
        self._tokenizer = tokenizer
        self._renderer = make_renderer(preparation, tokenizer)
        self._tokenizing = Tokenizing(tokenizer)
        self._encoder = Encoder(tokenizer)

    def mismatch(self, one: Expectation, row: Row) -> Mismatch | None:
        """What is otherwise than expected. DataError where the row cannot be prepared."""
        prepared = unit(self._preparation.format, self._renderer, row)
        sides = [SIDES[number] for number in prepared.sides]
        wanted = one.side or ("chosen" if "chosen" in sides else sides[0])
        if wanted not in sides:
            return Mismatch(f"the row has no {wanted} answer, but one that is {sides[0]}", "leave side out")
        at = sides.index(wanted)
        loss = self._loss(prepared, at)
        found = [] if loss and loss.startswith("dropped") else self.stretches(prepared.items[at])
        differs = difference(one.stretches, [stretch.text for stretch in found])
        hint = None if differs is None or loss else _as_expectation(found)
        if differs is None and one.weights is not None:
            differs = _weights_differ(one.weights, found)
        if differs is None and not (loss and one.stretches):
            return None
        told = [part for part in (f"the row is {loss}" if loss else None, differs) if part]
        return Mismatch("\n  ".join(told), hint)

    def stretches(self, item: Item) -> list[Stretch]:
        """What is trained of a sample, as long as it is whole."""
        match item:
            case Rendered():
                parts = self._rendered(item)
            case Segments():
                parts = _segments(item, self._tokenizer.eos_token)
            case Steps():
                named = item.steps[-1:] if item.last_step_only else item.steps
                return [Stretch(text) for text, _ in named]
            case Tokens():
                parts = self._tokens(item)
        return _merged(parts)

    def _rendered(self, item: Rendered) -> Iterator[tuple[int, Stretch]]:
        encoded = self._encoder.encode([item.text])
        for span in item.spans:
            start, end = _whole(span, encoded.starts, encoded.ends) if span.whole else span[:2]
            yield start, Stretch(item.text[start:end], span.weight)

    def _tokens(self, item: Tokens) -> Iterator[tuple[int, Stretch]]:
        """Ids that came without a text: what they decode to, a run of equal weights at a time."""
        weights = [1.0] * len(item.ids) if item.weights is None else list(item.weights)
        shown = [weight if label != IGNORE_INDEX else 0.0 for weight, label in zip(weights, item.labels, strict=True)]
        start = place = 0
        for end in range(1, len(shown) + 1):
            if end == len(shown) or shown[end] != shown[start]:
                text = self._tokenizer.decode(list(item.ids[start:end]), skip_special_tokens=False)
                yield place, Stretch(text, shown[start])
                start, place = end, place + len(text)

    def _loss(self, prepared: Unit, at: int) -> str | None:
        """What of the row's trained tokens is lost by its length, in words."""
        samples = self._tokenizing.tokenize(prepared.items).samples
        count = Count()
        kept = list(pieces_kept(samples, prepared, self._data, count))
        room = self._data.sequence_len
        if count.samples_dropped_long:
            length = max(len(sample.ids) for sample in samples)
            return f"dropped: it has {length} tokens, sequence_len is {room}"
        if count.samples_dropped_short and not kept:
            return f"dropped: it is shorter than min_sample_len ({self._data.min_sample_len} tokens)"
        whole = count_trained(samples[at].labels)
        cut = whole - count_trained(samples[at].labels[:room])
        if cut and len(samples[at].ids) > room and count.tokens_truncated:
            return f"cut at sequence_len ({room}): {cut} of its {whole} trained tokens are lost"
        return None


def rows_meant(
    preparations: Sequence[Preparation], expectations: Mapping[int, Expectation]
) -> Iterator[tuple[int, int, Row]]:
    """(key of an expectation, number of its row from 1, row), as the rows come; those without a row are left out.

    `preparations` are of one data set, which may stand for several."""
    numbers = [one.row or 1 for one in expectations.values()]
    skip = min(numbers) - 1 if len(preparations) == 1 else 0
    waiting = dict(expectations)
    for number, row in enumerate(chain.from_iterable(one.rows(skip=skip) for one in preparations), skip + 1):
        for key, one in list(waiting.items()):
            if number == one.row if one.row is not None else _fits(row, one.where or {}):
                del waiting[key]
                yield key, number, row
        if not waiting:
            return


def _fits(row: Row, where: Mapping[str, Any]) -> bool:
    return all(_value(row.values, field) == (type(value), value) for field, value in where.items())


def _value(values: Any, field: str) -> tuple[type, Any] | None:
    """The value of a column, or of `a.b` within one; None where there is none."""
    if isinstance(values, dict) and field in values:
        return type(values[field]), values[field]
    first, dot, rest = field.partition(".")
    if isinstance(values, list) and first.isdecimal() and int(first) < len(values):
        inner = values[int(first)]
    elif isinstance(values, dict) and dot and first in values:
        inner = values[first]
    else:
        return None
    return _value(inner, rest) if dot else (type(inner), inner)


def _whole(span: Span, starts: np.ndarray, ends: np.ndarray) -> tuple[int, int]:
    """The characters of those tokens that lie wholly inside a span."""
    first = int(np.searchsorted(starts, span.start, side="left"))
    last = int(np.searchsorted(ends, span.end, side="right"))
    return (int(starts[first]), int(ends[last - 1])) if first < last else (span.start, span.start)


def _segments(item: Segments, eos: str) -> Iterator[tuple[int, Stretch]]:
    place, text = 0, ""
    for text, weight in item.parts:
        yield place, Stretch(text, weight)
        place += len(text)
    missing = item.add_eos - text.endswith(eos) if item.add_eos else 0
    yield place, Stretch(eos * missing if missing > 0 else "", item.parts[-1][1])


def _merged(parts: Iterator[tuple[int, Stretch]]) -> list[Stretch]:
    """Neighbours of one weight as one; without what is not trained."""
    merged: list[Stretch] = []
    end = -1
    for start, stretch in parts:
        if not stretch.text or stretch.weight <= 0:
            continue
        if merged and start == end and merged[-1].weight == stretch.weight:
            merged[-1] = Stretch(merged[-1].text + stretch.text, stretch.weight)
        else:
            merged.append(stretch)
        end = start + len(stretch.text)
    return merged


def _weights_differ(expected: Sequence[float], found: Sequence[Stretch]) -> str | None:
    for number, (weight, stretch) in enumerate(zip(expected, found, strict=True), 1):
        if abs(weight - stretch.weight) > 1e-6:
            return f"stretch {number} counts {stretch.weight:g}, expected {weight:g}: {visible(stretch.text)}"
    return None


def _as_expectation(found: Sequence[Stretch]) -> str | None:
    """What to write where the data is right and the expectation is wrong."""
    if not found:
        return "if this is right, expect it: untrained: true"
    texts = [stretch.text for stretch in found]
    said = json.dumps(texts[0] if len(texts) == 1 else texts, ensure_ascii=False)
    return f"if this is right, expect it: trained: {said}" if len(said) <= 400 else None
