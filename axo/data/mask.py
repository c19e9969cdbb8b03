"""Which characters of a rendered conversation are trained, and how much: the rules of a recipe applied to its turns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from axo.data.messages import Detail, Message
from axo.recipe.data import TrainOn


class Span(NamedTuple):
    """Characters [start, end) of a text that are trained."""

    start: int
    end: int
    weight: float = 1.0
    whole: bool = False
    """A token is trained only if it lies wholly inside; else already if it holds any of these characters."""


@dataclass(frozen=True)
class MaskOptions:
    """What a recipe says about training turns of a conversation."""

    roles_to_train: tuple[str, ...] = ("assistant",)
    train_on_inputs: bool = False
    """All roles are trained."""
    train_on_eos: TrainOn = "turn"
    """Whose end-of-sequence token is trained: of trained turns, of all, the last one of the conversation, or none."""
    train_on_eot: TrainOn | None = None
    """The same for the texts of eot_tokens; None: as train_on_eos."""
    eos_token: str | None = None
    eot_tokens: tuple[str, ...] = ()
    """Texts that end a turn."""
    last_answer: bool = False
    """Train everything from where the last message begins to the end, and nothing else."""

    def weight(self, message: Message) -> float:
        """How much the text of this turn counts; the data's own word goes first."""
        if message.weight is not None:
            return message.weight
        return float(self.train_on_inputs or message.role in self.roles_to_train)

    def trains(self, message: Message) -> bool:
        """Whether any text of this turn is trained."""
        if message.weight == 0:
            return False
        return self.weight(message) > 0 or any(part.weight for part in (*message.details, *message.reasoning_details))

    def ends(self) -> tuple[tuple[tuple[str, ...], TrainOn], ...]:
        """Kinds of end-of-turn: the texts of each, of which the first behind a turn counts, and whose is trained."""
        kinds: list[tuple[tuple[str, ...], TrainOn]] = [(self.eot_tokens, self.train_on_eot or self.train_on_eos)]
        if self.eos_token is not None and self.eos_token not in self.eot_tokens:
            kinds.append(((self.eos_token,), self.train_on_eos))
        return tuple(kinds)

    def end_texts(self) -> tuple[str, ...]:
        """Every text that ends a turn."""
        return tuple(text for texts, _ in self.ends() for text in texts)


class Turn(NamedTuple):
    """Where a message's own text stands in the rendered conversation, and the end-of-turn texts behind it."""

    start: int
    end: int
    ends: tuple[tuple[int, int] | None, ...] = ()
    """Of each kind of end-of-turn: where the first one before the next turn begins stands; None: there is none."""
    content: int | None = None
    """Where the content's first character (counted as in the row, before a template trims it) would stand; None: the
    template does not write the content as it is."""
    reasoning: int | None = None
    """The same for the chain of thought."""
    content_written: tuple[int, int] | None = None
    """What the template writes of the content; None: not known."""
    reasoning_written: tuple[int, int] | None = None
    """The same for the chain of thought."""


def with_end_of_turn(
    turns: Sequence[Turn | None], text: str, mask: MaskOptions, *, stops: Sequence[tuple[int, int]] = ()
) -> list[Turn | None]:
    """The same turns with the end-of-turn texts behind each one that stand before another message's text begins.

    `stops`: (character, message) where further texts of messages begin, beside those of the turns themselves.
    """
    kinds = mask.ends()
    begins = sorted([*stops, *((turn.start, number) for number, turn in enumerate(turns) if turn)])
    found: list[Turn | None] = []
    for number, turn in enumerate(turns):
        if turn is not None:
            bound = _next(begins, turn.end, number, len(text))
            ends = tuple([_first(text, texts, turn.end, bound) for texts, _ in kinds])
            turn = Turn(turn[0], turn[1], ends, *turn[3:])
        found.append(turn)
    return found


def _next(begins: Sequence[tuple[int, int]], end: int, number: int, last: int) -> int:
    """Where the first text of another message than `number` begins at or behind `end`."""
    at = bisect_left(begins, (end, -1))
    while at < len(begins) and begins[at][1] == number:
        at += 1
    return begins[at][0] if at < len(begins) else last


def trained_spans(turns: Sequence[Turn | None], messages: Sequence[Message], mask: MaskOptions) -> tuple[Span, ...]:
    """Trained characters, sorted and disjoint.

    What stands between a turn's text and its first end-of-turn belongs to the turn where that end is trained.
    """
    kinds = mask.ends()
    last = [
        max((at for at, turn in enumerate(turns) if turn and turn.ends[kind]), default=-1) for kind in range(len(kinds))
    ]
    spans: list[Span] = []
    for number, (turn, message) in enumerate(zip(turns, messages, strict=True)):
        if turn is None:
            continue
        trained = mask.trains(message)
        ends = sorted(
            end
            for end, (_, whose), last_one in zip(turn.ends, kinds, last, strict=True)
            if end is not None and _trains_end(whose, trained=trained, last=number == last_one)
        )
        spans += _of_turn(turn, message, ends, mask) if trained else [Span(*end) for end in ends]
    return joined(sorted(spans))


def _of_turn(turn: Turn, message: Message, ends: Sequence[tuple[int, int]], mask: MaskOptions) -> list[Span]:
    """The spans of a turn of which something is trained."""
    weight = mask.weight(message)
    factor = 1.0 if message.weight is None else message.weight
    if not message.details and not message.reasoning_details:
        first = min((end for end in turn.ends if end), default=None)
        own = Span(turn.start, first[1] if first in ends and first is not None else turn.end, weight)
        return [own, *(Span(*end, weight) for end in ends)]
    spans = [Span(*end, weight or factor) for end in ends]
    for start, written, details in (
        (turn.content, turn.content_written, message.details),
        (turn.reasoning, turn.reasoning_written, message.reasoning_details),
    ):
        if start is None:
            continue
        first, last = written or (turn.start, turn.end)
        weighed = [replace(at, weight=weight if at.weight is None else factor * at.weight) for at in details]
        parts = [Span(start + at.start, start + at.end, at.weight or 0.0, whole=True) for at in _merged(weighed)]
        cut = [part._replace(start=max(part.start, first), end=min(part.end, last)) for part in parts]
        spans += [part for part in cut if part.weight > 0 and part.end > part.start]
    return spans


def _merged(details: Sequence[Detail]) -> list[Detail]:
    """Neighbours of one weight as one, so that a token across their border lies wholly inside."""
    merged: list[Detail] = []
    for detail in details:
        if merged and merged[-1].end == detail.start and merged[-1].weight == detail.weight:
            merged[-1] = replace(merged[-1], end=detail.end)
        else:
            merged.append(detail)
    return merged


def _trains_end(whose: TrainOn, *, trained: bool, last: bool) -> bool:
    return {"turn": trained, "all": True, "last": last, "none": False}[whose]


def _first(text: str, tokens: Sequence[str], start: int, bound: int) -> tuple[int, int] | None:
    hits = [(at, at + len(token)) for token in tokens if (at := text.find(token, start, bound)) >= 0]
    return min(hits, default=None)


def joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans that touch and count alike as one; the earlier one wins where they overlap."""
    joined: list[Span] = []
    for span in spans:
        before = joined[-1] if joined else None
        if before is not None and span.start <= before.end and span[2:] == before[2:]:
            joined[-1] = before._replace(end=max(before.end, span.end))
            continue
        if before is not None and span.start < before.end:
            span = span._replace(start=before.end)
        if span.end > span.start:
            joined.append(span)
    return tuple(joined)
