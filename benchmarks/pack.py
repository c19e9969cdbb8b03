"""Time and number of packs for ten million lengths on one core, beside best-fit decreasing one sample at a time.

    python benchmarks/pack.py [--samples N] [--json]

The baseline is the same rule in plain Python, on fewer lengths, which axo packs too: the ratio is that of samples a
second. Lengths are log-normal (mean 300 tokens), as those of instructions are; a pack has 8,192 tokens.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from statistics import median
from time import process_time

import numpy as np
from measure import Target, parser, report

from axo.data.pack import Packs, pack

CAPACITY = 8192
MEDIAN, SPREAD = 200.0, 0.9
BASELINE_SAMPLES = 200_000
BOUND_SECONDS = 3.0


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=10_000_000)
    options.add_argument("--runs", type=int, default=3)
    arguments = options.parse_args()
    lengths = make_lengths(arguments.samples)
    runs = [timed(lengths) for _ in range(arguments.runs)]
    seconds, packs = median(run[0] for run in runs), len(runs[0][1])
    few = lengths[:BASELINE_SAMPLES]
    began = process_time()
    plain = best_fit_decreasing(few.tolist(), CAPACITY)
    plain_seconds = process_time() - began
    few_seconds, few_packs = min((timed(few) for _ in range(3)), key=lambda run: run[0])
    whole = best_fit_decreasing_by_counts(lengths, CAPACITY)
    return report(
        "pack",
        figures={
            "samples": len(lengths),
            "tokens of a sample, mean": float(lengths.mean()),
            "packs": packs,
            "share of a pack that is filled": float(lengths.sum()) / (packs * CAPACITY),
            f"plain Python, {len(few):,} samples (s)": plain_seconds,
            f"axo, {len(few):,} samples (s)": few_seconds,
            "times as fast as plain Python": plain_seconds / few_seconds,
        },
        targets=[
            Target(f"packing {len(lengths):,} samples, median", seconds, BOUND_SECONDS, "s"),
            Target(f"packs of {len(lengths):,} samples", packs, whole, "packs"),
            Target(f"packs of {len(few):,} samples", len(few_packs), plain, "packs"),
        ],
        as_json=arguments.json,
    )


def make_lengths(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(MEDIAN * np.exp(SPREAD * rng.standard_normal(count)), 1, CAPACITY).astype(np.int32)


def timed(lengths: np.ndarray) -> tuple[float, Packs]:
    began = process_time()
    packs = pack(lengths, capacity=CAPACITY, sequential=False)
    return process_time() - began, packs


def best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    """Packs, where each sample, longest first, goes to the fullest pack that has room."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        at = bisect_left(rooms, length)
        room = rooms.pop(at) if at < len(rooms) else capacity
        insort(rooms, room - length)
    return len(rooms)


def best_fit_decreasing_by_counts(lengths: np.ndarray, capacity: int) -> int:
    """The same number, from how many samples have each length and how many packs have each room: for millions."""
    with_room = [0] * (capacity + 1)
    rooms: list[int] = []
    packs = 0
    counts = np.bincount(lengths)
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            at = bisect_left(rooms, length)
            if at == len(rooms):
                packs += 1
                _add(rooms, with_room, capacity, 1)
            room = rooms[at]
            placed = min(left, with_room[room])
            _add(rooms, with_room, room - length, placed)
            with_room[room] -= placed
            if not with_room[room]:
                rooms.remove(room)
            left -= placed
    return packs


def _add(rooms: list[int], with_room: list[int], room: int, packs: int) -> None:
    """Count packs with a room; `rooms` are those that some pack has, rising."""
    if not with_room[room]:
        insort(rooms, room)
    with_room[room] += packs


if __name__ == "__main__":
    sys.exit(main())
