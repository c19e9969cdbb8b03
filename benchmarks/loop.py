"""What axo's training loop costs over a loop written by hand: the same tiny model, the same packs, step by step.

After each step of axo's loop a hook runs the hand-written step for the same packs on a twin of the model, so both
see the same machine. The figure is the median of the differences.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np
import torch
from measure import Target, parser, report
from setting import Running, make_folder, start

from axo.data.store import Store
from axo.objectives.causal_lm import CausalLM
from axo.train.events import Progress
from axo.train.hooks.metrics_file import MetricsFile
from axo.types import Batch

if TYPE_CHECKING:
    from axo.train.events import StepEnd

BOUND_SECONDS = 0.0003
MODEL = {
    "vocab_size": 512, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=2000)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    keys = {"sequence_len": 256, "sample_packing": True, "micro_batch_size": 1, "max_steps": arguments.steps}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        running = start(make_folder(folder, num_rows=500, model=MODEL, keys=keys), stack)
        by_hand = ByHand(deepcopy(running.objective), running)
        hooks = [MetricsFile(folder / "metrics.jsonl", step=0), by_hand]
        by_hand.left = now()
        running.loop.train(Progress(), hooks)
    own, hand = (np.array(times)[arguments.steps // 10 :] for times in (by_hand.axo, by_hand.hand))
    wall, processor = np.median(own - hand, axis=0)
    return report(
        "loop",
        figures={
            "axo's loop, median (ms a step)": 1e3 * median(own[:, 0]),
            "loop by hand, median (ms a step)": 1e3 * median(hand[:, 0]),
            "ratio": median(own[:, 0]) / median(hand[:, 0]),
            "overhead, processor time (ms a step)": 1e3 * float(processor),
        },
        targets=[Target("overhead", 1e3 * float(wall), 1e3 * BOUND_SECONDS, "ms a step")],
        as_json=arguments.json,
    )


@dataclass
class ByHand:
    """The loop that one writes on a whiteboard, one step at a time."""

    objective: CausalLM
    running: Running
    left: np.ndarray = field(default_factory=lambda: np.zeros(2))
    axo: list[np.ndarray] = field(default_factory=list[np.ndarray])
    """Wall and processor seconds of each step."""
    hand: list[np.ndarray] = field(default_factory=list[np.ndarray])

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.objective.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.0, fused=True)
        order = self.running.data.train_order
        self.packs = (packs for epoch in count() for packs in order.steps(epoch))

    def after_step(self, end: StepEnd) -> None:
        packs = next(self.packs)
        started = now()
        self.axo.append(started - self.left)
        self.step(packs)
        self.left = now()
        self.hand.append(self.left - started)

    def step(self, packs: Sequence[np.ndarray]) -> float:
        batch = collate_by_hand(self.running.data.train_store, packs[0], length=256, pad=self.running.pad_token_id)
        loss = self.objective(batch) / (batch.targets != -100).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def close(self) -> None:
        return


def now() -> np.ndarray:
    return np.array([perf_counter(), process_time()])


def collate_by_hand(store: Store, pack: np.ndarray, *, length: int, pad: int) -> Batch:
    """One row of `length` tokens."""
    ids = np.full(length, pad)
    targets = np.full(length, -100)
    positions = np.zeros(length, dtype=np.int64)
    bounds = [0]
    for index in pack:
        sample, labels = store[index]
        at, end = bounds[-1], bounds[-1] + len(sample)
        ids[at:end], targets[at : end - 1], positions[at:end] = sample, labels[1:], np.arange(len(sample))
        bounds.append(end)
    if bounds[-1] < length:
        positions[bounds[-1] :] = np.arange(length - bounds[-1])
        bounds.append(length)
    tensors = (torch.from_numpy(array)[None] for array in (ids, targets, positions))
    return Batch(*tensors, cu_seqlens=torch.tensor(bounds, dtype=torch.int32))


if __name__ == "__main__":
    sys.exit(main())
