"""The contract between the loop and whatever runs a step: one device, many, or parts of a model each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn

from axo.types import Batch, Layout, Sums, Update

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
Meet = Callable[[dist.Store, int, int], dist.Store]
"""What is done with the store that all ranks share, this rank and the number of ranks, before the process group; gives
the store that the group is made with."""


class Engine(Protocol):
    """See docs/decisions/0001-engine-contract.md for what each method must hold on each engine."""

    layout: Layout
    device: torch.device

    holds_whole: bool
    """Every rank holds all weights, so that rank 0 can save the model alone."""
    reads_weights: bool
    """Inside construct(): whether this rank reads the model's weights; the others build it on the meta device, and
    prepare() brings them their part."""

    def construct(self, meet: Meet | None = None) -> AbstractContextManager[None]:
        """Around loading the model and applying the adapter: the process group exists inside. `meet` is called before
        it does."""
        ...

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer | None) -> None:
        """Place the objective, wrap it, make the optimizer (None: only evaluate), and assert that it took effect."""
        ...

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every data rank, one row a rank: the loop's only collective besides the engine's own."""
        ...

    def accumulate(self, micro_batches: Sequence[Batch], *, divisor: float) -> list[float]:
        """ALL forwards and backwards of one step; gradients are those of (sum of losses over all ranks) / divisor.
        Returns this rank's loss sums: one, or one for each data set where batches name them."""
        ...

    def update(self, *, lr: float, max_grad_norm: float) -> Update:
        """Clip, check, step, clear. A non-finite norm raises TrainingError before anything has changed; under loss
        scaling an overflow is a skipped step, the same one on all ranks."""
        ...

    def evaluate(self, batches: Iterable[Batch]) -> Sums:
        """Sums over all ranks; every rank must bring equally many batches."""
        ...

    def save_state(self, folder: Path) -> list[Path]:
        """Trained weights, optimizer state and loss scale, as safetensors and JSON; the files that this rank wrote."""
        ...

    def load_state(self, folder: Path) -> None:
        """What save_state wrote, bit by bit on the same number of ranks."""
        ...

    def full_weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        """Name in the objective and whole tensor of every weight of the model, or of the trained ones; all ranks must
        go through it to its end together. A tensor that was gathered is good until the next one is asked for."""
        ...

    def close(self) -> None:
        """Leave the process group, if there is one."""
        ...
