"""The tokens of a sample laid beside the texts that they are of: text and reason of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from axo.data.encode import Encoder
from axo.data.sample import Sample
from axo.data.why import Reason, Region
from axo.types import IGNORE_INDEX

FRONT = Region(0, "added", "put in front by the tokenizer", "as what follows it", "as what follows it")
BEHIND = Region(
    0,
    "end",
    "end of sequence, put behind the text",
    "the text before it is trained",
    "the text before it is not trained",
)
OWN = Region(0, "data", "token of the row", "it has a label", "its label is -100")


@dataclass
class Aligned:
    texts: list[str]
    """One for each token."""
    reasons: list[int]
    """One for each token: its number in `why`."""
    why: list[Reason] = field(default_factory=list[Reason])

    def number(self, reason: Reason) -> int:
        """The number of a reason in `why`, where it stands from now on."""
        if reason not in self.why:
            self.why.append(reason)
        return self.why.index(reason)


def align(
    sample: Sample, texts: Sequence[str], regions: Sequence[Sequence[Region]], *, encoder: Encoder, tokenizer: Any
) -> Aligned:
    """`texts` are what is tokenised, each by itself, and `regions` what stands in each of them; without texts the
    sample's ids are all there is."""
    front_region, behind = FRONT, BEHIND
    if not texts:
        texts, regions = _decoded(sample, encoder, tokenizer)
        front_region = behind = OWN
    encoded = encoder.encode(texts)
    owners = np.repeat(np.arange(len(texts)), np.diff(encoded.bounds))
    front = _front(sample.ids, encoded.ids)
    trained = sample.labels != IGNORE_INDEX
    found = Aligned([""] * len(sample.ids), [0] * len(sample.ids))
    end = min(len(sample.ids), front + len(encoded.ids))
    for token in (*range(front), *range(end, len(sample.ids))):
        found.texts[token] = tokenizer.decode([int(sample.ids[token])])
        found.reasons[token] = found.number((front_region if token < front else behind).reason(bool(trained[token])))
    written = _written(texts, owners, encoded.ends)
    found.texts[front:end] = written[: end - front]
    flat = [region for own in regions for region in own]
    held = _regions_held(regions, owners, encoded.starts, encoded.ends, trained[front:end])
    keys, inverse = np.unique(2 * held + trained[front:end], return_inverse=True)
    numbers = np.array([found.number(flat[key // 2].reason(bool(key % 2))) for key in keys.tolist()], dtype=np.int64)
    found.reasons[front:end] = numbers[inverse].tolist()
    return found


def _front(ids: np.ndarray, encoded: np.ndarray) -> int:
    """How many tokens stand before those of the texts."""
    for front in range(len(ids) + 1):
        length = min(len(ids) - front, len(encoded))
        if length == 0 < len(encoded):
            break
        if np.array_equal(ids[front : front + length], encoded[:length]):
            return front
    raise AssertionError("the tokens of a sample are not those of its texts")


def _written(texts: Sequence[str], owners: np.ndarray, ends: np.ndarray) -> list[str]:
    """The text of each token; what no token holds goes to the token behind it, and at an end to the last one."""
    written: list[str] = []
    last, at = -1, 0
    for owner, end in zip(owners.tolist(), ends.tolist(), strict=True):
        if owner != last:
            if last >= 0:
                written[-1] += str(texts[last][at:])
            last, at = owner, 0
        written.append(str(texts[owner][at:end]))
        at = max(at, end)
    if written:
        written[-1] += texts[last][at:]
    return written


def _regions_held(
    regions: Sequence[Sequence[Region]], owners: np.ndarray, starts: np.ndarray, ends: np.ndarray, trained: np.ndarray
) -> np.ndarray:
    """The region of each token, counted through all texts: that of its first character, or of its first trained one
    where the token is trained."""
    count = len(trained)
    owned, first = owners[:count], starts[:count]
    last = np.maximum(first, ends[:count] - 1)
    begin, stop = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    before = 0
    for owner, own in enumerate(regions):
        at = owned == owner
        bounds = np.array([region.start for region in own])
        begin[at] = np.searchsorted(bounds, first[at], side="right") - 1 + before
        stop[at] = np.searchsorted(bounds, last[at], side="right") - 1 + before
        before += len(own)
    flat = [region for own in regions for region in own]
    for token in np.flatnonzero((begin != stop) & trained).tolist():
        held = range(int(begin[token]), int(stop[token]) + 1)
        begin[token] = next((one for one in held if flat[one].trains), held[0])
    return begin


def _decoded(sample: Sample, encoder: Encoder, tokenizer: Any) -> tuple[list[str], list[list[Region]]]:
    """The text of ids that came without one: as a whole where it leads back to them, else token by token."""
    text = tokenizer.decode(sample.ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if np.array_equal(encoder.encode([text]).ids, sample.ids):
        return [text], [[OWN]]
    return [], []
