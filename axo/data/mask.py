"""Which characters of a rendered conversation are trained: the rules of a recipe applied to its turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from axo.data.messages import Message
from axo.recipe.data import TrainOn

Span = tuple[int, int]
"""Characters [start, end)."""


@dataclass(frozen=True)
class MaskOptions:
    """What a recipe says about training turns of a conversation."""

    roles_to_train: tuple[str, ...] = ("assistant",)
    train_on_inputs: bool = False
    """All roles are trained."""
    train_on_eos: TrainOn = "turn"
    """Whose end-of-turn text is trained: of trained turns, of all, the last one of the conversation, or none."""
    eot_tokens: tuple[str, ...] = ()
    """Texts that end a turn."""

    def trains(self, message: Message) -> bool:
        """Whether the text of this turn is trained; the data's own word goes first."""
        if message.trained is not None:
            return message.trained
        return self.train_on_inputs or message.role in self.roles_to_train


@dataclass(frozen=True)
class Turn:
    """Where a message's own text stands in the rendered conversation, and the end-of-turn text behind it."""

    start: int
    end: int
    eot: Span | None = None


def with_end_of_turn(turns: Sequence[Turn | None], text: str, eot_tokens: Sequence[str]) -> list[Turn | None]:
    """The same turns with the first end-of-turn text behind each one that stands before the next turn begins."""
    found: list[Turn | None] = []
    bound = len(text)
    for turn in reversed(turns):
        if turn is not None:
            turn = Turn(turn.start, turn.end, _first(text, eot_tokens, turn.end, bound))
            bound = min(bound, turn.start)
        found.append(turn)
    return found[::-1]


def trained_spans(turns: Sequence[Turn | None], messages: Sequence[Message], mask: MaskOptions) -> tuple[Span, ...]:
    """Trained characters, sorted and disjoint.

    What stands between a turn's text and its trained end-of-turn belongs to the turn.
    """
    last = max((number for number, turn in enumerate(turns) if turn is not None and turn.eot is not None), default=-1)
    spans: list[Span] = []
    for number, (turn, message) in enumerate(zip(turns, messages, strict=True)):
        if turn is None:
            continue
        trained = mask.trains(message)
        eot = turn.eot if _trains_eot(mask.train_on_eos, trained=trained, last=number == last) else None
        if trained:
            spans.append((turn.start, turn.end if eot is None else eot[1]))
        elif eot is not None:
            spans.append(eot)
    return _joined(sorted(spans))


def _trains_eot(train_on_eos: TrainOn, *, trained: bool, last: bool) -> bool:
    return {"turn": trained, "all": True, "last": last, "none": False}[train_on_eos]


def _first(text: str, eot_tokens: Sequence[str], start: int, bound: int) -> Span | None:
    hits = [(at, at + len(token)) for token in eot_tokens if (at := text.find(token, start, bound)) >= 0]
    return min(hits, default=None)


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif end > start:
            joined.append((start, end))
    return tuple(joined)
