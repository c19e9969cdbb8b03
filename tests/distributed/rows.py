"""Samples in memory: of unequal lengths, with unequal numbers of trained tokens, each told by its first token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axo.types import Batch

FIRST_TOKEN = 10
VOCABULARY = 256
LONGEST = 24


class Rows:
    """A store of `size` samples; `mixed`: of two data sets, whose tokens have weights."""

    def __init__(self, size: int, *, mixed: bool = False) -> None:
        draw = np.random.default_rng(0)
        self._samples: list[tuple[np.ndarray, np.ndarray]] = []
        for index in range(size):
            ids = draw.integers(FIRST_TOKEN + size, VOCABULARY, size=int(draw.integers(4, LONGEST))).astype(np.int32)
            ids[0] = FIRST_TOKEN + index
            labels = ids.copy()
            labels[: 2 + (index * 5) % (len(ids) - 2)] = -100
            self._samples.append((ids, labels))
        self.lengths = np.array([len(ids) for ids, _ in self._samples], dtype=np.int32)
        self.trained = np.array([int((labels != -100).sum()) for _, labels in self._samples])
        self.sets = np.arange(size, dtype=np.int16) % 5 // 4 if mixed else np.zeros(size, dtype=np.int16)
        self.num_sets = 2 if mixed else 1
        self.is_weighted = mixed

    def __len__(self) -> int:
        return len(self._samples)

    def ids(self, samples: np.ndarray) -> list[np.ndarray]:
        return [ids for ids, _ in self._of(samples)]

    def labels(self, samples: np.ndarray) -> list[np.ndarray]:
        return [labels for _, labels in self._of(samples)]

    def weights(self, samples: np.ndarray) -> list[np.ndarray]:
        return [(labels != -100) * (0.25 + ids % 7 / 4).astype(np.float32) for ids, labels in self._of(samples)]

    def _of(self, samples: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self._samples[sample] for sample in samples]


def times_seen(batches: Sequence[Batch], *, size: int) -> list[int]:
    """How often each sample stands in the batches, told by the token it begins with."""
    counts = np.zeros(size, dtype=np.int64)
    for batch in batches:
        first = batch.input_ids.flatten()[batch.cu_seqlens[:-1].long()].numpy() - FIRST_TOKEN
        np.add.at(counts, first[first >= 0], 1)  # padding, a sample of its own, is full of a lower token
    return counts.tolist()
