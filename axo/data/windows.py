"""A text that is longer than a row is cut into pieces: one after the other, or overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from axo.data.sample import Sample


def piece_starts(sample: Sample, *, room: int, overlap: int) -> list[int]:
    """Where the pieces of a sample begin in it, behind what a window has in front."""
    if overlap == 0:
        return list(range(0, len(sample.ids), room))
    content = len(sample.ids) - sample.front - 1
    width = _width(sample, room)
    step = max(width - overlap, 1)
    count = 1 + -(-max(content - width, 0) // step)
    return [sample.front + number * step for number in range(count)]


def pieces(sample: Sample, *, room: int, overlap: int) -> Iterator[Sample]:
    """Samples of at most `room` tokens that together hold all of `sample`, which ends with an end-of-sequence token.

    With an overlap each has the tokens in front of the sample and its end-of-sequence token, and repeats as many tokens
    of the text before it; so does a tokenizer with `stride` and `return_overflowing_tokens`.
    """
    for start in piece_starts(sample, room=room, overlap=overlap):
        if overlap == 0:
            yield sample.piece(start, start + room)
            continue
        end = min(start + _width(sample, room), len(sample.ids) - 1)
        at = np.concatenate([np.arange(sample.front), np.arange(start, end), [len(sample.ids) - 1]])
        weights = None if sample.weights is None else sample.weights[at]
        yield Sample(sample.ids[at], sample.labels[at], weights=weights, front=sample.front)


def _width(sample: Sample, room: int) -> int:
    """Tokens of the text in a window; one where there is hardly room."""
    return max(room - sample.front - 1, 1)
