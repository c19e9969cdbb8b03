"""Text and trained characters become ids, labels and weights: one tokenisation of everything, in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from axo.data.encode import Encoded, Encoder
from axo.data.mask import Span
from axo.data.messages import Segments, Steps, Tokens
from axo.data.render import Rendered
from axo.errors import DataError
from axo.types import IGNORE_INDEX

Item = Rendered | Segments | Tokens | Steps


@dataclass(frozen=True)
class Sample:
    ids: np.ndarray
    """(T,) int32."""
    labels: np.ndarray
    """(T,) int32, the id (or class) where it is trained and -100 elsewhere; not shifted."""
    straddling: int = 0
    """Tokens that hold characters which are trained and others which are not."""
    weights: np.ndarray | None = None
    """(T,) float32: how much each token counts in the loss; None: 1 where it is trained."""
    lost: int = 0
    """Tokens that the row itself had cut off."""
    front: int = 0
    """Special tokens that were put in front of its text."""

    def piece(self, start: int, end: int) -> Sample:
        """Some of its tokens."""
        weights = None if self.weights is None else self.weights[start:end]
        return Sample(self.ids[start:end], self.labels[start:end], weights=weights)

    def all_weights(self) -> np.ndarray:
        """(T,) float32, whether they are given or not."""
        return (self.labels != IGNORE_INDEX).astype(np.float32) if self.weights is None else self.weights


@dataclass(frozen=True)
class Tokenized:
    samples: list[Sample]
    """One for each item."""
    role_tokens: Counter[str] = field(default_factory=Counter[str])
    """Tokens of the turns of each role."""
    role_trained: Counter[str] = field(default_factory=Counter[str])
    """Those of them that are trained."""


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
        ends = _ends(items, self._tokenizer)
        result = Tokenized([])
        rendered = _of_rendered(items, encoded, texts, result)
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
                    result.samples.append(_of_joined(item, encoded, slice(begin, end), ends))
                case Segments():
                    result.samples.append(_of_segments(item, parts, ends))
                case Tokens():
                    result.samples.append(_of_tokens(item))
                case Steps():
                    result.samples.append(_of_steps(item, parts, ends))
        return result


def added_in_front(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts in front of a text, usually one BOS or none."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    return []


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


def _of_rendered(items: Sequence[Item], encoded: Encoded, texts: Sequence[str], result: Tokenized) -> Iterator[Sample]:
    """The samples of the rendered items: positions of all of them are looked up at once."""
    found = _Positions(encoded, texts)
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
    outer_first, outer_last = found.tokens(owners, [span._replace(whole=False) for span in spans])
    trained = _covered(first, last, len(encoded.ids))
    straddling = found.straddling(owners, spans, outer_first, outer_last)
    weights = None
    if any(span.weight != 1.0 for span in spans):
        weights = np.zeros(len(encoded.ids), dtype=np.float32)
        for begin, end, span in zip(first.tolist(), last.tolist(), spans, strict=True):
            np.maximum(weights[begin:end], span.weight, out=weights[begin:end])
    labels = np.where(trained, encoded.ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    _count_roles(rendered, numbers, found, trained, result)
    for number in numbers:
        begin, end = int(encoded.bounds[number]), int(encoded.bounds[number + 1])
        crossing = int(np.searchsorted(straddling, end) - np.searchsorted(straddling, begin))
        own = None if weights is None else weights[begin:end]
        if own is not None and np.array_equal(own, trained[begin:end]):
            own = None
        yield Sample(encoded.ids[begin:end], labels[begin:end], crossing, own)


class _Positions:
    """Characters of all texts of a batch, counted in a row, and the tokens that hold them."""

    def __init__(self, encoded: Encoded, texts: Sequence[str]) -> None:
        lengths = np.fromiter((len(text) + 1 for text in texts), dtype=np.int64, count=len(texts))
        self._offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        shift = np.repeat(self._offsets[:-1], np.diff(encoded.bounds))
        self._starts, self._ends = encoded.starts + shift, encoded.ends + shift

    def tokens(self, owners: Sequence[int], spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [first, last) of each span (start, end, ...) of the text `owners` names."""
        if not spans:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        starts, ends = self._characters(owners, spans)
        whole = np.fromiter((span.whole for span in spans), dtype=bool, count=len(spans))
        first = np.searchsorted(self._ends, starts, side="right")
        last = np.searchsorted(self._starts, ends, side="left")
        if whole.any():
            first = np.where(whole, np.searchsorted(self._starts, starts, side="left"), first)
            last = np.where(whole, np.searchsorted(self._ends, ends, side="right"), last)
        return first, np.maximum(first, last)

    def straddling(
        self, owners: Sequence[int], spans: Sequence[Span], first: np.ndarray, last: np.ndarray
    ) -> np.ndarray:
        """Tokens at the edges of spans that reach beyond them, sorted."""
        if not spans:
            return np.zeros(0, dtype=np.int64)
        starts, ends = self._characters(owners, spans)
        some = last > first
        begins, stops = first[some], last[some] - 1
        crossing = (begins[self._starts[begins] < starts[some]], stops[self._ends[stops] > ends[some]])
        return np.unique(np.concatenate(crossing))

    def _characters(self, owners: Sequence[int], spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
        base = self._offsets[np.asarray(owners, dtype=np.int64)]
        bounds = np.array([span[:2] for span in spans], dtype=np.int64)
        return base + bounds[:, 0], base + bounds[:, 1]


def _covered(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` tokens lie in any range [first, last)."""
    depth = np.zeros(count + 1, dtype=np.int32)
    np.add.at(depth, first, 1)
    np.add.at(depth, last, -1)
    return np.cumsum(depth[:-1]) > 0


def _count_roles(
    items: Sequence[Rendered], numbers: Sequence[int], found: _Positions, trained: np.ndarray, result: Tokenized
) -> None:
    owners: list[int] = []
    turns: list[Span] = []
    roles: list[str] = []
    for number, item in zip(numbers, items, strict=True):
        for role, turn in zip(item.roles, item.turns, strict=True):
            if turn is not None:
                owners.append(number)
                roles.append(role)
                turns.append(Span(turn.start, max([turn.end, *(end[1] for end in turn.ends if end)])))
    first, last = found.tokens(owners, turns)
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(trained)])
    counts = before[last] - before[first]
    for role, tokens, count in zip(roles, (last - first).tolist(), counts.tolist(), strict=True):
        result.role_tokens[role] += tokens
        result.role_trained[role] += count


@dataclass(frozen=True)
class _Ends:
    """What goes around segments."""

    front: list[int]
    eos: int | None
    bos: int | None


def _ends(items: Sequence[Item], tokenizer: Any) -> _Ends:
    if tokenizer.eos_token_id is None and any(isinstance(item, Segments) and item.add_eos for item in items):
        raise DataError(
            "the tokenizer has no end-of-sequence token, so no answer would ever end", "set special_tokens.eos_token"
        )
    asked = any(isinstance(item, Segments) and item.add_bos for item in items)
    return _Ends(added_in_front(tokenizer) if asked else [], tokenizer.eos_token_id, tokenizer.bos_token_id)


def _of_segments(item: Segments, parts: Sequence[np.ndarray], ends: _Ends) -> Sample:
    pieces = [np.array(ends.front if item.add_bos else [], dtype=np.int32), *parts]
    shares = [item.parts[0][1], *(weight for _, weight in item.parts)]
    missing = item.add_eos - (any(map(len, pieces)) and _last(pieces) == ends.eos)
    if missing > 0:
        pieces.append(np.array([ends.eos] * missing, dtype=np.int32))
        shares.append(item.parts[-1][1])
    ids = np.concatenate(pieces).astype(np.int32, copy=False)
    weights = np.repeat(np.array(shares, dtype=np.float32), [len(piece) for piece in pieces])
    labels = np.where(weights > 0, ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    plain = all(share in (0.0, 1.0) for share in shares)
    return Sample(ids, labels, weights=None if plain else weights, front=len(pieces[0]))


def _of_joined(item: Segments, encoded: Encoded, own: slice, ends: _Ends) -> Sample:
    """A token belongs to every part of which it holds a character."""
    ids, starts, stops = encoded.ids[own], encoded.starts[own], encoded.ends[own]
    weights, held = np.zeros(len(ids), dtype=np.float32), np.zeros(len(ids), dtype=np.int8)
    at = 0
    for text, weight in item.parts:
        inside = (stops > at) & (starts < at + len(text))
        weights[inside] = np.maximum(weights[inside], weight)
        held[inside] |= 1 if weight > 0 else 2
        at += len(text)
    begins = ends.front == ids[: len(ends.front)].tolist()
    front = ends.front if item.add_bos and not begins else []
    missing = max(0, item.add_eos - (len(ids) > 0 and int(ids[-1]) == ends.eos))
    eos = np.full(missing, ends.eos if missing else 0, dtype=np.int32)
    ids = np.concatenate([np.array(front, dtype=np.int32), ids, eos]).astype(np.int32, copy=False)
    weights = np.concatenate([[item.parts[0][1]] * len(front), weights, [item.parts[-1][1]] * missing])
    labels = np.where(weights > 0, ids, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    plain = all(weight in (0.0, 1.0) for _, weight in item.parts)
    return Sample(ids, labels, int((held == 3).sum()), None if plain else weights.astype(np.float32))


def _last(pieces: Sequence[np.ndarray]) -> int:
    return int(next(piece for piece in reversed(pieces) if len(piece))[-1])


def _of_tokens(item: Tokens) -> Sample:
    weights = None if item.weights is None else np.array(item.weights, dtype=np.float32)
    labels = np.array(item.labels, dtype=np.int32)
    if weights is not None:
        labels = np.where(weights > 0, labels, np.int32(IGNORE_INDEX)).astype(np.int32, copy=False)
    return Sample(np.array(item.ids, dtype=np.int32), labels, weights=weights)


def _of_steps(item: Steps, parts: Sequence[np.ndarray], ends: _Ends) -> Sample:
    """Prompt and steps; the last token of each step, or of the last one, carries its class.

    As trl's PRMTrainer.tokenize_row (trl 0.20) has it: parts tokenised apart, and a BOS in front wherever the tokenizer
    has one, even if it puts none before a text itself.
    """
    prompt, *steps, separator = parts
    ids: list[int] = []
    labels: list[int] = []
    for number, (step, (_, label)) in enumerate(zip(steps, item.steps, strict=True)):
        step_ids = [*step.tolist(), *separator.tolist()]
        said = not item.last_step_only or number == len(steps) - 1
        ids += step_ids
        labels += [IGNORE_INDEX] * (len(step_ids) - 1) + [label if said else IGNORE_INDEX] * bool(step_ids)
    cut = item.max_completion_length
    front = [*([] if ends.bos is None else [ends.bos]), *prompt.tolist()]
    lost = len(ids) - len(ids[:cut])
    labels = [IGNORE_INDEX] * len(front) + labels[:cut]
    return Sample(np.array([*front, *ids[:cut]], dtype=np.int32), np.array(labels, dtype=np.int32), lost=lost)
