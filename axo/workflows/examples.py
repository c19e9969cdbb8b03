"""Prepared samples with the text of each token, as they will be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from axo.data.aligned import align
from axo.data.encode import Encoder
from axo.data.prepare import Prepared
from axo.data.sample import Sample
from axo.data.store import SIDES, Store, open_store


@dataclass(frozen=True)
class Example:
    """One sample: N tokens."""

    name: str
    """Of its data set."""
    side: str
    """Of SIDES; empty where nothing is compared."""
    texts: list[str]
    ids: list[int]
    labels: list[int]
    """The id where it is trained, else -100."""


def draw_examples(prepared: Prepared, *, count: int, tokenizer: Any, seed: int) -> list[Example]:
    """Samples drawn from all that is prepared, in its order; an answer that is compared comes with the other one."""
    store = open_store(prepared.path)
    rows = _rows(store)
    drawn = np.random.default_rng(seed).choice(len(rows), min(count, len(rows)), replace=False)
    encoder = Encoder(tokenizer)
    examples: list[Example] = []
    for sample in (sample for row in sorted(drawn.tolist()) for sample in rows[row]):
        ids, labels = store[sample]
        texts = align(Sample(ids, labels), (), (), encoder=encoder, tokenizer=tokenizer).texts
        name = prepared.reports[int(store.sets[sample])].path
        examples.append(Example(name, SIDES[int(store.sides[sample])], texts, ids.tolist(), labels.tolist()))
    return examples


def _rows(store: Store) -> list[tuple[int, ...]]:
    """Numbers of the samples of each row."""
    second = store.sides == SIDES.index("rejected")
    starts = np.flatnonzero(~second).tolist()
    return [tuple(range(start, end)) for start, end in zip(starts, [*starts[1:], len(store)], strict=True)]
