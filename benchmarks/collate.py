"""Tokens that packed collation handles in a second on one core, beside a collator that joins tensors one by one.

    python benchmarks/collate.py [--micro-batch N] [--json]

Samples have 300 tokens on average (log-normal) and lie in a prepared store; packs have 8,192. The baseline makes the
same batches with torch.cat: a tensor for each sample and column, as a PyTorch data set hands them out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch
from measure import Target, parser, report

from axo.data.collate import collate
from axo.data.pack import Packs, pack
from axo.data.sample import Sample
from axo.data.store import Store, StoreWriter, open_store
from axo.types import IGNORE_INDEX

CAPACITY = 8192
SAMPLES, BATCH_ROWS = 30_000, 1000
MEDIAN, SPREAD = 200.0, 0.9
BOUND = 50e6


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--micro-batch", type=int, default=2)
    options.add_argument("--runs", type=int, default=7)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store")
        packs = pack(store.lengths, capacity=CAPACITY, sequential=False)
        check(store, packs)
        # Interleaved, so that both see the same load; the first run maps the file.
        runs = [
            (timed(by_axo, store, packs, arguments.micro_batch), timed(by_cat, store, packs, arguments.micro_batch))
            for _ in range(arguments.runs + 1)
        ][1:]
        tokens = int(store.lengths.sum())
    axo, cat = (tokens / median(column) for column in zip(*runs, strict=True))
    return report(
        "collate",
        figures={
            "tokens of a sample, mean": tokens / SAMPLES,
            "rows of a micro-batch": arguments.micro_batch,
            "torch.cat, million tokens a second": cat / 1e6,
            "axo, million tokens a second": axo / 1e6,
            "times as fast as torch.cat": axo / cat,
        },
        targets=[Target("packed collation", axo / 1e6, BOUND / 1e6, "million tokens a second", at_most=False)],
        as_json=arguments.json,
    )


def make_store(folder: Path) -> Store:
    rng = np.random.default_rng(0)
    lengths = np.clip(MEDIAN * np.exp(SPREAD * rng.standard_normal(SAMPLES)), 2, CAPACITY).astype(int)
    with StoreWriter(folder) as writer:
        for begin in range(0, SAMPLES, BATCH_ROWS):
            writer.append([make_sample(rng, length) for length in lengths[begin : begin + BATCH_ROWS]])
        writer.finish({})
    return open_store(folder)


def make_sample(rng: np.random.Generator, length: int) -> Sample:
    ids = rng.integers(0, 32_000, length).astype(np.int32)
    return Sample(ids, np.where(np.arange(length) < length // 3, IGNORE_INDEX, ids).astype(np.int32))


def timed(make: Callable[[Store, list[np.ndarray]], object], store: Store, packs: Packs, rows: int) -> float:
    began = process_time()
    for begin in range(0, len(packs), rows):
        make(store, packs[begin : begin + rows])
    return process_time() - began


def by_axo(store: Store, packs: list[np.ndarray]) -> list[torch.Tensor]:
    batch = collate(store, packs, pad_token_id=0, length=CAPACITY, multiple_of=None)
    return [batch.input_ids, batch.targets, batch.position_ids, batch.cu_seqlens]


def by_cat(store: Store, packs: list[np.ndarray]) -> list[torch.Tensor]:
    rows = [_cat_row(store, pack) for pack in packs]
    ends = torch.cat([torch.zeros(1, dtype=torch.int32), torch.cat([row[3] for row in rows]).cumsum(0)]).int()
    return [*(torch.stack(column) for column in zip(*(row[:3] for row in rows), strict=True)), ends]


def _cat_row(store: Store, samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    ids: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    positions: list[torch.Tensor] = []
    for sample in samples.tolist():
        sample_ids, labels = (torch.tensor(values, dtype=torch.int64) for values in store[sample])
        ids.append(sample_ids)
        targets.append(torch.cat([labels[1:], torch.tensor([IGNORE_INDEX])]))
        positions.append(torch.arange(len(sample_ids)))
    padding = CAPACITY - sum(len(values) for values in ids)
    if padding:
        ids.append(torch.zeros(padding, dtype=torch.int64))
        targets.append(torch.full((padding,), IGNORE_INDEX))
        positions.append(torch.arange(padding))
    lengths = torch.tensor([len(values) for values in ids])
    return torch.cat(ids), torch.cat(targets), torch.cat(positions), lengths


def check(store: Store, packs: Packs) -> None:
    """Both make the same batches."""
    few = packs[:5]
    assert all(torch.equal(*pair) for pair in zip(by_axo(store, few), by_cat(store, few), strict=True))


if __name__ == "__main__":
    sys.exit(main())
