"""What becomes of a sample, in words: kept, cut off, cut into pieces, or dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from axo.data.keep import Count
from axo.data.sample import Sample
from axo.data.windows import piece_starts

if TYPE_CHECKING:
    from axo.recipe.data import DataSection

Status = Literal["kept", "truncated", "cut", "dropped"]


def fate_of(sample: Sample, count: Count, data: DataSection, *, chunked: bool, overlap: int = 0) -> tuple[Status, str]:
    """What becomes of a sample whose row was counted by itself; `overlap` is Segments.overlap."""
    length, room = len(sample.ids), data.sequence_len
    if chunked and length > room:
        dropped = count.samples_dropped_short + count.samples_dropped_untrained
        lost = f", {dropped} of them dropped" if dropped else ""
        shared = f", each with {overlap} tokens of the one before it" if overlap else ""
        num_pieces = len(piece_starts(sample, room=room, overlap=overlap))
        return "cut", f"cut into {num_pieces} pieces of sequence_len ({room}){shared}{lost}"
    cut = f"{length - room} tokens cut off behind sequence_len ({room})" if length > room else ""
    lost = count.samples_dropped_long + count.samples_dropped_short + count.samples_dropped_untrained
    own = "it or the answer beside it is " if lost > 1 else ""
    if count.samples_dropped_duplicate:
        return "dropped", "dropped: the row is equal to an earlier one"
    if count.samples_dropped_long:
        return "dropped", f"dropped: {own}longer than sequence_len ({room})"
    if count.samples_dropped_short:
        return "dropped", f"dropped: {own}shorter than min_sample_len ({data.min_sample_len})"
    if count.samples_dropped_untrained:
        return "dropped", f"dropped: {own}without a trained token{f', after {cut}' if cut else ''}"
    if sample.lost:
        return "kept", f"kept; {sample.lost} tokens cut off behind max_completion_length"
    return ("truncated", cut) if cut else ("kept", "kept")
