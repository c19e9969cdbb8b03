"""Text and trained characters become ids, labels and weights: one tokenisation of everything, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from axo.data.assemble import find_ends, of_joined, of_segments, of_steps, of_tokens
from axo.data.encode import Encoded, Encoder
from axo.data.messages import Segments, Steps, Tokens
from axo.data.positions import Positions, covered
from axo.data.render import Rendered
from axo.data.sample import Sample, TurnTokens
from axo.types import IGNORE_INDEX

Item = Rendered | Segments | Tokens | Steps


@dataclass(frozen=True)
class Tokenized:
    samples: list[Sample]
    """One for each item."""


class Tokenizing:
    """Tokenises the items of a data set with one tokenizer (a fast one of transformers)."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer)

    def tokenize(self, items: Sequence[Item]) -> Tokenized:
        """One sample for each item, by one call of the tokenizer's backend.

        Rendered text keeps exactly the special tokens that its template wrote. A token is trained if it holds any
        trained character, and, in a span that asks for whole tokens, if it lies inside.
        """
        texts = [text for item in items for text in texts_of(item)]
        encoded = self._encoder.encode(texts)
        ends = find_ends(items, self._tokenizer)
        result = Tokenized([])
        rendered = _of_rendered(items, encoded, texts)
        at = 0
        for item in items:
            count = len(texts_of(item))
            parts = [encoded.ids[encoded.bounds[n] : encoded.bounds[n + 1]] for n in range(at, at + count)]
            at += count
            match item:
                case Rendered():
                    result.samples.append(next(rendered))
                case Segments(joined=True):
                    begin, end = int(encoded.bounds[at - 1]), int(encoded.bounds[at])
                    result.samples.append(of_joined(item, encoded, slice(begin, end), ends))
                case Segments():
                    result.samples.append(of_segments(item, parts, ends))
                case Tokens():
                    result.samples.append(of_tokens(item))
                case Steps():
                    result.samples.append(of_steps(item, parts, ends))
        return result


def texts_of(item: Item) -> list[str]:
    match item:
        case Rendered():
            return [item.text]
        case Segments():
            texts = [text for text, _ in item.parts]
            return ["".join(texts)] if item.joined else texts
        case Tokens():
            return []
        case Steps():
            return [item.prompt, *(text for text, _ in item.steps), item.separator]


def _of_rendered(items: Sequence[Item], encoded: Encoded, texts: Sequence[str]) -> Iterator[Sample]:
    """The samples of the rendered items: positions of all of them are looked up at once."""
    found = Positions(encoded, texts)
    numbers: list[int] = []
    at = 0
    for item in items:
        if isinstance(item, Rendered):
            numbers.append(at)
        at += len(texts_of(item))
    rendered = [item for item in items if isinstance(item, Rendered)]
    owners = [number for number, item in zip(numbers, rendered, strict=True) for _ in item.spans]
    spans = [span for item in rendered for span in item.spans]
    first, last = found.tokens(owners, spans)
    trained = covered(first, last, len(encoded.ids))
    straddling = found.straddling(owners, spans)
    weights = None
    if any(span.weight != 1.0 for span in spans):
        weights = np.zeros(len(encoded.ids), dtype=np.float32)
        for begin, end, span in zip(first.tolist(), last.tolist(), spans, strict=True):
            np.maximum(weights[begin:end], span.weight, out=weights[begin:end])
    labels = np.where(trained, encoded.ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    for number, turns in zip(numbers, _turns(rendered, numbers, found, encoded), strict=True):
        begin, end = int(encoded.bounds[number]), int(encoded.bounds[number + 1])
        crossing = int(np.searchsorted(straddling, end) - np.searchsorted(straddling, begin))
        own = None if weights is None else weights[begin:end]
        if own is not None and np.array_equal(own, trained[begin:end]):
            own = None
        yield Sample(encoded.ids[begin:end], labels[begin:end], crossing, own, turns=turns)


def _turns(
    items: Sequence[Rendered], numbers: Sequence[int], found: Positions, encoded: Encoded
) -> list[list[TurnTokens]]:
    """The tokens of each item's turns, counted within its own sample."""
    owners: list[int] = []
    bounds: list[tuple[int, int]] = []
    for number, item in zip(numbers, items, strict=True):
        for turn in item.turns:
            if turn is not None:
                before = len(bounds)
                bounds.append((turn.start, turn.end))
                bounds += [end for end in turn.ends if end]
                owners += [number] * (len(bounds) - before)
    firsts, lasts = found.holding(owners, bounds)
    pairs = iter(zip(firsts.tolist(), lasts.tolist(), strict=True))
    result: list[list[TurnTokens]] = []
    for number, item in zip(numbers, items, strict=True):
        begin, own = int(encoded.bounds[number]), []
        for role, turn in zip(item.roles, item.turns, strict=True):
            if turn is not None:
                first, last = next(pairs)
                ends = []
                behind = last
                for end in turn.ends:
                    if end:
                        start, stop = next(pairs)
                        ends.append((start - begin, stop - begin))
                        behind = max(behind, stop)
                own.append(TurnTokens(role, first - begin, behind - begin, last - begin, ends))
        result.append(own)
    return result
