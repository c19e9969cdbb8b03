"""What single and ddp share: backward over micro-batches, update, evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from axo.errors import TrainingError
from axo.types import Batch, Sums, Update


def backward(
    module: nn.Module, batch: Batch, *, scale: float, device: torch.device, autocast_dtype: torch.dtype | None
) -> torch.Tensor:
    """Forward and backward of loss sum * scale; returns the detached loss sum (fp32 scalar)."""
    with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        loss = module(batch.to(device))
    (loss * scale).backward()
    return loss.detach()


def update(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], *, lr: float, max_grad_norm: float
) -> Update:
    """Clip to max_grad_norm (0: only measure), refuse a non-finite norm, step at `lr`, clear the gradients."""
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    if not math.isfinite(norm):
        raise TrainingError(
            f"the gradient norm is {norm}; the weights are unchanged",
            "look at the batch and the learning rate of this step; the last checkpoint holds the state before",
        )
    if 0 < max_grad_norm < norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, torch.tensor(norm))
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Update(grad_norm=norm)


def score(
    module: nn.Module, batches: Iterable[Batch], *, device: torch.device, autocast_dtype: torch.dtype | None
) -> Sums:
    """This rank's sums, in float64, in evaluation mode; the mode is put back afterwards."""
    was_training = module.training
    module.eval()
    sums = torch.zeros(3, dtype=torch.float64)
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            for batch in batches:
                sums += module(batch.to(device), score=True).double().cpu()
    finally:
        module.train(was_training)
    return Sums(*sums.tolist())
