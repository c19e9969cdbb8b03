"""Three steps in float16 of which one overflows, on one rank."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from axo.engines.base import Engine
from axo.engines.ddp import DDP
from axo.engines.fsdp import FSDP
from axo.engines.single import Single
from axo.plan.plan import FSDPPlan
from axo.types import Batch

History = list[list[list[float]]]
"""Step, rank -> whether it was skipped, the loss scale after it, the sum of the weights."""
LOUD = 1e6
"""A gradient that no loss scale down to 1 brings into float16."""


class Toy(torch.nn.Module):
    """The gradient of each of its five weights is as large as the batch's weight. FSDP2 splits along the first
    dimension, which is 1: all of it lies on rank 0, and no other rank sees what overflowed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, batch: Batch) -> torch.Tensor:
        assert batch.weights is not None
        return (self.layer(torch.ones(len(batch.weights), 4)).float() * batch.weights).sum()


def overflow() -> dict[str, History]:
    """What each engine for this number of ranks does; all ranks call it."""
    half: dict[str, Any] = {
        "device": "cpu", "autocast_dtype": torch.float16, "timeout_seconds": 60, "loss_scaling": True,
    }  # fmt: skip
    if not dist.is_initialized():
        return {"single": _history(Single(**half))}
    return {
        "ddp": _history(DDP(**half)),
        "fsdp": _history(FSDP(**half, settings=FSDPPlan(shard=dist.get_world_size()))),
    }


def _history(engine: Engine) -> History:
    history: History = []
    module = Toy()
    with engine.construct():
        engine.prepare(module, lambda one: torch.optim.SGD(one.parameters(), lr=0.1))
        for step in range(3):
            update = _step(engine, loud=step == 1)
            total = sum(float(value.sum()) for _, value in engine.full_weights())
            history.append(engine.gather([float(update.skipped), update.loss_scale or 0.0, total]))
        engine.close()
    return history


def _step(engine: Engine, *, loud: bool) -> Any:
    """Clipped to norm 0.1. Where it is loud, the last rank's gradient overflows."""
    last = engine.layout.rank == engine.layout.world_size - 1
    ids, bounds = torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0, 1], dtype=torch.int32)
    batch = Batch(ids, ids, ids, bounds, weights=torch.tensor([[LOUD if loud and last else 0.5]]))
    engine.accumulate([batch], divisor=float(engine.layout.world_size))
    return engine.update(lr=0.1, max_grad_norm=0.1)
