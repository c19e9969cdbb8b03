"""Text and trained characters become ids, labels and weights: one tokenisation of everything, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np

from axo.data.assemble import find_ends, of_joined, of_segments, of_steps, of_tokens
from axo.data.encode import Encoded, Encoder
from axo.data.mask import Turn
from axo.data.messages import Segments, Steps, Tokens
from axo.data.positions import Positions, covered
from axo.data.render import Rendered
from axo.data.sample import Sample, Turns
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
        texts = [texts_of(item) for item in items]
        encoded = self._encoder.encode([*chain.from_iterable(texts)])
        places = [0, *accumulate(map(len, texts))]
        rendered = _of_rendered(items, places, encoded, [*chain.from_iterable(texts)])
        ends = find_ends(items, self._tokenizer)
        result = Tokenized([])
        for item, (first, last) in zip(items, pairwise(places), strict=True):
            match item:
                case Rendered():
                    sample = next(rendered)
                case Segments(joined=True):
                    sample = of_joined(item, encoded, slice(*encoded.bounds[[first, last]].tolist()), ends)
                case Segments():
                    sample = of_segments(item, encoded.parts(first, last), ends)
                case Tokens():
                    sample = of_tokens(item)
                case Steps():
                    sample = of_steps(item, encoded.parts(first, last), ends)
            result.samples.append(sample)
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


def _of_rendered(
    items: Sequence[Item], places: Sequence[int], encoded: Encoded, texts: Sequence[str]
) -> Iterator[Sample]:
    """The samples of the rendered items: positions of all of them are looked up at once.

    `places`: the text of the batch that each item begins with, and their number.
    """
    rendered = [item for item in items if isinstance(item, Rendered)]
    if not rendered:
        return
    owners = np.array([place for item, place in zip(items, places[:-1], strict=True) if isinstance(item, Rendered)])
    found = Positions(encoded, texts)
    trained, weights, straddling = _trained(rendered, owners, found, len(encoded.ids))
    labels = np.where(trained, encoded.ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    crossing = np.diff(np.searchsorted(straddling, encoded.bounds))[owners].tolist()
    turns = _turns(rendered, owners, found, encoded.bounds[owners])
    bounds = zip(encoded.bounds[owners].tolist(), encoded.bounds[owners + 1].tolist(), strict=True)
    for (begin, end), straddles, said in zip(bounds, crossing, turns, strict=True):
        own = None if weights is None else weights[begin:end]
        if own is not None and np.array_equal(own, trained[begin:end]):
            own = None
        yield Sample(encoded.ids[begin:end], labels[begin:end], straddles, own, turns=said)


def _trained(
    items: Sequence[Rendered], owners: np.ndarray, found: Positions, count: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Of all `count` tokens of the batch: which are trained, how much each counts (None: 1), and which straddle."""
    spans = [span for item in items for span in item.spans]
    bounds = np.array([span[:2] for span in spans], dtype=np.int64).reshape(-1, 2)
    characters = found.characters(np.repeat(owners, [len(item.spans) for item in items]), bounds)
    tokens = found.holding(characters)
    if any(span.whole for span in spans):
        whole = np.array([[span.whole] for span in spans])
        tokens = np.where(whole, found.inside(characters), tokens)
    weights = None
    if any(span.weight != 1.0 for span in spans):
        weights = np.zeros(count, dtype=np.float32)
        for (begin, end), span in zip(tokens.tolist(), spans, strict=True):
            np.maximum(weights[begin:end], span.weight, out=weights[begin:end])
    return covered(tokens, count), weights, found.straddling(characters)


def _turns(items: Sequence[Rendered], owners: np.ndarray, found: Positions, begins: np.ndarray) -> Iterator[Turns]:
    """The tokens of each item's turns, counted within its own sample."""
    own = [[turn for turn in item.turns if turn is not None] for item in items]
    counts = [len(turns) for turns in own]
    bounds = _bounds([turn for turns in own for turn in turns])
    characters = found.characters(np.repeat(owners, counts), bounds)
    tokens = found.holding(characters) - np.repeat(begins, counts)[:, None, None]
    for item, (first, last) in zip(items, pairwise([0, *accumulate(counts)]), strict=True):
        roles = [role for role, turn in zip(item.roles, item.turns, strict=True) if turn is not None]
        yield Turns(roles, tokens[first:last])


def _bounds(turns: Sequence[Turn]) -> np.ndarray:
    """(turns, 1 + kinds, 2) int64: the characters of each turn's own text and of every kind of end-of-turn."""
    kinds = max((len(turn.ends) for turn in turns), default=0)
    padded = ((turn[:2], *turn.ends, *[None] * (kinds - len(turn.ends))) for turn in turns)
    numbers = chain.from_iterable(bound or _NOWHERE for bounds in padded for bound in bounds)
    return np.fromiter(numbers, dtype=np.int64).reshape(-1, 1 + kinds, 2)


_NOWHERE = (0, 0)
