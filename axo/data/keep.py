"""What is kept of a row's samples and what is cut off or dropped, all of it counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from axo.data.messages import Segments
from axo.data.render import Renderer
from axo.data.report import SetReport
from axo.data.sample import Sample
from axo.data.turn_count import TurnCount
from axo.data.unit import Unit
from axo.data.windows import pieces

if TYPE_CHECKING:
    from axo.recipe.data import DataSection


@dataclass
class Count:
    """The numbers of a SetReport while they grow."""

    rows: int = 0
    samples: int = 0
    tokens_read: int = 0
    tokens_kept: int = 0
    tokens_dropped: int = 0
    tokens_truncated: int = 0
    trained_tokens: int = 0
    samples_dropped_long: int = 0
    samples_dropped_short: int = 0
    samples_dropped_untrained: int = 0
    tokens_dropped_long: int = 0
    tokens_dropped_short: int = 0
    tokens_dropped_untrained: int = 0
    samples_dropped_duplicate: int = 0
    tokens_dropped_duplicate: int = 0
    straddling_tokens: int = 0
    equal_answers: int = 0
    render_fallbacks: int = 0
    reasoning_removed: int = 0
    tools_unwritten: int = 0
    turns: TurnCount = field(default_factory=TurnCount)
    """Of what is kept."""

    def merge(self, other: Count) -> None:
        """Count what another has counted too."""
        for name, value in vars(other).items():
            if name != "turns":
                setattr(self, name, getattr(self, name) + value)
        self.turns.merge(other.turns)

    def report(self, path: str, renderer: Renderer | None) -> SetReport:
        counts = {name: value for name, value in vars(self).items() if name != "turns"}
        if renderer is not None:
            turns = self.turns
            counts |= {
                "role_tokens": dict(turns.role_tokens),
                "role_trained": dict(turns.role_trained),
                "trained_turns": turns.trained,
                "trained_ends": turns.ended,
                "unended_turns": turns.trained - turns.ended if renderer.ends_turns else 0,
            }
        return SetReport(path, **counts)

    def add_renders(self, after: Mapping[str, int], *, before: Mapping[str, int]) -> None:
        """Count what a renderer counted between these two."""
        for name, value in after.items():
            setattr(self, name, getattr(self, name) + value - before[name])

    def drop(self, samples: Sequence[Sample], reason: str) -> None:
        """Count samples that are not written; reason: long, short or untrained."""
        tokens = sum(len(sample.ids) for sample in samples)
        for what, more in (("samples", len(samples)), ("tokens", tokens)):
            name = f"{what}_dropped_{reason}"
            setattr(self, name, getattr(self, name) + more)
        self.tokens_dropped += tokens

    def drop_duplicate(self, samples: Sequence[Sample]) -> None:
        """Count the samples of a row that was there before, as they were read."""
        tokens = sum(len(sample.ids) + sample.lost for sample in samples)
        self.samples_dropped_duplicate += len(samples)
        self.tokens_read += tokens
        self.tokens_dropped += tokens
        self.tokens_dropped_duplicate += tokens


def renders(renderer: Renderer | None) -> dict[str, int]:
    """What a renderer has counted so far, by the names of Count."""
    if renderer is None:
        return {}
    return {
        "render_fallbacks": renderer.fallbacks,
        "reasoning_removed": renderer.reasoning_removed,
        "tools_unwritten": renderer.tools_unwritten,
    }


def pieces_kept(samples: Sequence[Sample], unit: Unit, data: DataSection, count: Count) -> Iterator[Sequence[Sample]]:
    """What is written of a row, cut where it must be: all its samples or none. Everything is counted but its turns.

    DataError, before anything is counted: a sample is too long under excess_length_strategy `raise`.
    """
    lengths = [len(sample.ids) for sample in samples]
    if max(lengths) > data.sequence_len and data.excess_length_strategy == "raise" and not _is_chunked(unit):
        raise unit.row.error(
            f"this row has {max(lengths)} tokens, sequence_len is {data.sequence_len}",
            "raise sequence_len, or set excess_length_strategy to drop or truncate",
        )
    lost = sum([sample.lost for sample in samples])
    count.tokens_read += lost + sum(lengths)
    count.tokens_truncated += lost
    count.straddling_tokens += sum([sample.straddling for sample in samples])
    groups = [samples] if max(lengths) <= data.sequence_len else _cut(samples, unit, data, count)
    for group in groups:
        lengths = [len(piece.ids) for piece in group]
        trained = [piece.trained for piece in group]
        if min(lengths) < data.min_sample_len:
            count.drop(group, "short")
        elif not all(trained):
            count.drop(group, "untrained")
        else:
            count.samples += len(group)
            count.tokens_kept += sum(lengths)
            count.trained_tokens += sum(trained)
            yield group


def _cut(samples: Sequence[Sample], unit: Unit, data: DataSection, count: Count) -> Iterator[Sequence[Sample]]:
    """What is left of samples of which one is longer than sequence_len: chunks of it, their heads, or nothing."""
    room = data.sequence_len
    if _is_chunked(unit):
        cut = list(pieces(samples[0], room=room, overlap=_overlap(unit)))
        count.tokens_read += sum(len(piece.ids) for piece in cut) - len(samples[0].ids)
        yield from ([piece] for piece in cut)
    elif data.excess_length_strategy == "truncate":
        count.tokens_truncated += sum(max(0, len(sample.ids) - room) for sample in samples)
        yield [sample.piece(0, room) for sample in samples]
    else:
        count.drop(samples, "long")


def _overlap(unit: Unit) -> int:
    first = unit.items[0]
    return first.overlap if isinstance(first, Segments) else 0


def _is_chunked(unit: Unit) -> bool:
    first = unit.items[0]
    return isinstance(first, Segments) and first.chunk
