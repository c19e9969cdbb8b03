"""What single and ddp share: backward over micro-batches, update, evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from axo.engines.scaling import LossScaling
from axo.errors import TrainingError
from axo.types import IGNORE_INDEX, Batch, Sums, Update


def backward(
    module: nn.Module,
    batch: Batch,
    *,
    scale: float,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
    scaling: LossScaling | None = None,
) -> torch.Tensor:
    """Forward and backward of loss sum * scale, under loss scaling also times its factor; returns the detached loss
    sums of the data sets, (1,) or (S,) fp32."""
    with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        loss = module(batch.to(device))
    scaled = (loss.sum() if loss.dim() else loss) * scale
    (scaled if scaling is None else scaling.scale(scaled)).backward()
    return loss.detach().view(-1)


def no_loss(batches: Sequence[Batch], device: torch.device) -> torch.Tensor:
    """The loss sums before the first batch, one for each data set that they name: (1,) or (S,) fp32."""
    return torch.zeros(1 if batches[0].sets is None else batches[0].num_sets, device=device)


def update(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    *,
    lr: float,
    max_grad_norm: float,
    scaling: LossScaling | None = None,
) -> Update:
    """Clip to max_grad_norm (0: only measure), refuse a non-finite norm, step at `lr`, clear the gradients.

    Under loss scaling a step whose gradients overflowed is left out, and the factor halves."""
    if scaling is not None:
        scaling.unscale(optimizer)
    norm = gradient_norm(parameters)
    if scaling is not None and scaling.update():
        optimizer.zero_grad(set_to_none=True)
        scaling.refuse_if_lost()
        return Update(grad_norm=math.inf, skipped=True, loss_scale=scaling.factor)
    if not math.isfinite(norm):
        raise TrainingError(
            f"the gradient norm is {norm}; the weights are unchanged",
            "look at the batch and the learning rate of this step; the last checkpoint holds the state before",
        )
    if 0 < max_grad_norm < norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, torch.tensor(norm))
    set_learning_rate(optimizer, lr)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Update(grad_norm=norm, loss_scale=None if scaling is None else scaling.factor)


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Of all gradients together, whole or split among ranks: every rank must ask."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """`lr` times each group's `lr_scale`; a rate that the optimizer keeps as a tensor is changed in place."""
    for group in optimizer.param_groups:
        own = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def score(
    module: nn.Module, batches: Iterable[Batch], *, device: torch.device, autocast_dtype: torch.dtype | None
) -> torch.Tensor:
    """This rank's [loss, weights, weights of correct tokens, trained tokens], (4, S) float64 of S data sets, in
    evaluation mode; the mode is put back afterwards."""
    was_training = module.training
    module.eval()
    total: torch.Tensor | None = None
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            for batch in batches:
                scored = module(batch.to(device), score=True).double().cpu().view(3, -1)
                mine = torch.cat([scored, _num_trained(batch)[None]])
                total = mine if total is None else total + mine
    finally:
        module.train(was_training)
    return torch.zeros(4, 1, dtype=torch.float64) if total is None else total


def sums(total: torch.Tensor) -> Sums:
    """What `score` gives, added up over all ranks."""
    each = [Sums(loss, count, correct, int(trained)) for loss, count, correct, trained in total.T.tolist()]
    loss, count, correct, trained = total.sum(1).tolist()
    return Sums(loss, count, correct, int(trained), sets=tuple(each) if len(each) > 1 else ())


def _num_trained(batch: Batch) -> torch.Tensor:
    """(S,) float64: trained tokens of each data set."""
    trained = batch.targets != IGNORE_INDEX
    if batch.sets is None:
        return trained.sum(dtype=torch.float64)[None]
    return torch.bincount(batch.sets[trained], minlength=batch.num_sets).double()
