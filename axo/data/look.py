"""A row as it is trained: every token with its text, its weight in the loss and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from axo.data.aligned import Aligned, align
from axo.data.encode import Encoder
from axo.data.fate import Status, fate_of
from axo.data.keep import Count, pieces_kept
from axo.data.messages import Compared, Conversation, Sampled, Segments, Steps, Tokens
from axo.data.parity import Parity, parity
from axo.data.preparation import Preparation
from axo.data.render import Rendered
from axo.data.rows import Row
from axo.data.store import SIDES
from axo.data.tokenize import Item, Tokenized, Tokenizing, texts_of
from axo.data.turn_count import TurnCount
from axo.data.unit import Unit, make_renderer, unit
from axo.data.why import Reason, Region, of_conversation, of_segments, of_steps
from axo.data.windows import piece_starts
from axo.types import IGNORE_INDEX

if TYPE_CHECKING:
    from axo.recipe.data import DataSection


@dataclass(frozen=True)
class Look:
    """One sample as it is read, before anything is cut off or dropped: N tokens."""

    side: str
    """Of SIDES; empty where nothing is compared."""
    ids: list[int]
    names: list[str]
    """What the tokenizer's vocabulary calls each token."""
    texts: list[str]
    """The text of each token; together they are the sample's text. A character that is split over several tokens
    stands in the first of them, and the others are empty."""
    weights: list[float]
    """How much each token counts in the loss: 0 where it is not trained. Of a dropped sample: what it would be."""
    reasons: list[int]
    """One for each token: its number in `why`."""
    why: list[Reason]
    status: Status
    fate: str
    """What becomes of it, in words."""
    starts: list[int]
    """Where samples begin in it: more than one where it is cut into pieces."""
    roles: dict[str, tuple[int, int]]
    """Tokens and trained tokens of the turns of each role."""
    straddling: int
    parity: Parity | None
    """None where there is no conversation."""

    @property
    def trained(self) -> int:
        return sum(1 for weight in self.weights if weight)


@dataclass(frozen=True)
class Seen:
    """A row and its samples: one, or one for each answer that is compared."""

    number: int
    """Counted from 1 in the data set."""
    file: str
    line: int
    looks: tuple[Look, ...]


class Looker:
    """Looks at rows of one data set. DataError where a row is wrong, as preparing raises it."""

    def __init__(
        self,
        preparation: Preparation,
        *,
        data: DataSection,
        tokenizer: Any,
        dropped_rows: frozenset[int] = frozenset(),
    ) -> None:
        """`dropped_rows`: numbers of rows that are left out because an equal one came before."""
        self._dropped_rows = dropped_rows
        self._preparation = preparation
        self._data = data
        self._tokenizer = tokenizer
        self._renderer = make_renderer(preparation, tokenizer)
        self._tokenizing = Tokenizing(tokenizer)
        self._encoder = Encoder(tokenizer)
        self._name = cache(tokenizer.convert_ids_to_tokens)

    def look(self, number: int, row: Row) -> Seen:
        """Row `number`, counted from 1."""
        prepared, reads = self._unit(row)
        tokenized = [self._tokenizing.tokenize([item]) for item in prepared.items]
        samples = [one.samples[0] for one in tokenized]
        count = Count()
        if number in self._dropped_rows:
            count.drop_duplicate(samples)
        else:
            list(pieces_kept(samples, prepared, self._data, count))
        looks: list[Look] = []
        for one, item, read, side in zip(tokenized, prepared.items, reads, prepared.sides, strict=True):
            texts, regions = _regions(item, read, self._preparation, compared=bool(side))
            found = align(one.samples[0], texts, regions, encoder=self._encoder, tokenizer=self._tokenizer)
            looks.append(self._made(one, item, read, SIDES[side], found, count))
        return Seen(number, row.file, row.line, tuple(looks))

    def text(self, row: Row) -> str:
        """What a search looks through: the texts of a row's samples."""
        return "\n".join(self._text(item) for item in self._unit(row)[0].items)

    def parities(self, row: Row) -> list[Parity]:
        """Of each conversation of a row."""
        prepared, reads = self._unit(row)
        found = [self._parity(item, read) for item, read in zip(prepared.items, reads, strict=True)]
        return [one for one in found if one is not None]

    def _unit(self, row: Row) -> tuple[Unit, tuple[Sampled, ...]]:
        """What becomes of a row, and what was read for each of its samples."""
        prepared = unit(self._preparation.format, self._renderer, row)
        read = self._preparation.format.read(row)
        return prepared, tuple(answer for _, answer in read.answers) if isinstance(read, Compared) else (read,)

    def _text(self, item: Item) -> str:
        if isinstance(item, Tokens):
            return self._tokenizer.decode(list(item.ids))
        return "".join(texts_of(item))

    def _parity(self, item: Item, read: Sampled, ids: np.ndarray | None = None) -> Parity | None:
        if not isinstance(item, Rendered) or not isinstance(read, Conversation):
            return None
        assert self._renderer is not None
        return parity(read, item.text, self._renderer, encoder=self._encoder, ids=ids)

    def _made(self, one: Tokenized, item: Item, read: Sampled, side: str, found: Aligned, count: Count) -> Look:
        (sample,) = one.samples
        room, chunked = self._data.sequence_len, isinstance(item, Segments) and item.chunk
        labelled = sample.labels != IGNORE_INDEX
        weights = (labelled if sample.weights is None else sample.weights).astype(float).tolist()
        overlap = item.overlap if isinstance(item, Segments) else 0
        status, fate = fate_of(sample, count, self._data, chunked=chunked, overlap=overlap)
        starts = [0]
        if status == "cut":
            starts += piece_starts(sample, room=room, overlap=overlap)[1:]
        for start in starts[:1] if overlap else starts:  # what begins a window is predicted in the one before it
            if weights[start : start + 1] != [0.0]:
                _untrain(found, weights, range(start, min(start + 1, len(weights))), FIRST)
        if len(weights) > room and not chunked and self._data.excess_length_strategy == "truncate":
            _untrain(found, weights, range(room, len(weights)), f"cut off: behind sequence_len ({room})")
        if status == "cut" and not overlap and len(weights) - starts[-1] < self._data.min_sample_len:
            _untrain(found, weights, range(starts[-1], len(weights)), "dropped: a piece shorter than min_sample_len")
        turns = TurnCount()
        turns.add([sample])
        return Look(
            side=side,
            ids=sample.ids.tolist(),
            names=[self._name(token) for token in sample.ids.tolist()],
            texts=found.texts,
            weights=weights,
            reasons=found.reasons,
            why=found.why,
            status=status,
            fate=fate,
            starts=starts,
            roles={role: (tokens, turns.role_trained[role]) for role, tokens in turns.role_tokens.items()},
            straddling=sample.straddling,
            parity=self._parity(item, read, sample.ids),
        )


FIRST = "the first token of a sample is never predicted"


def _regions(
    item: Item, read: Sampled, preparation: Preparation, *, compared: bool
) -> tuple[list[str], list[list[Region]]]:
    """What of an item is tokenised, in the order of its tokens, and what stands in it."""
    match item:
        case Rendered():
            assert isinstance(read, Conversation)
            return [item.text], [of_conversation(item, read.messages, preparation.mask, compared=compared)]
        case Segments():
            return texts_of(item), of_segments(item, format_name=preparation.type, compared=compared)
        case Steps():
            steps = [text for step, _ in item.steps for text in (step, item.separator)]
            return [item.prompt, *steps], of_steps(item)
        case Tokens():
            return [], []


def _untrain(found: Aligned, weights: list[float], tokens: range, why: str) -> None:
    for token in tokens:
        weights[token] = 0.0
        found.reasons[token] = found.number(found.why[found.reasons[token]]._replace(why=why))
