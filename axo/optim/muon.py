"""Muon for hidden matrices, AdamW for all other weights, as one optimizer.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) moves a matrix along its orthogonalised momentum. AdamW's
are embeddings, the output head and modules_to_save, as in Axolotl, and whatever is no matrix."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from axo.optim.groups import outer_names

ADJUST_LR = "match_rms_adamw"
"""Updates as large as AdamW's, 0.2 sqrt(max(rows, columns)) of the orthogonal matrix, so that one learning rate serves
both (Liu et al. 2025, arXiv 2502.16982, section 2.2); Axolotl's too."""


def muon(
    groups: Sequence[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
) -> MuonAndAdamW:
    """betas and eps are AdamW's, settings those of torch.optim.Muon."""
    matrices, others = _split(groups, outer=outer_names(module))
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        split = any(isinstance(weight, DTensor) for group in matrices for weight in group["params"])
        make = SplitMuon if split else torch.optim.Muon
        parts.append(make(matrices, lr=lr, **{"adjust_lr_fn": ADJUST_LR, **settings}))
    if others:
        parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps))
    return MuonAndAdamW(parts)


class SplitMuon(torch.optim.Muon):
    """Muon of matrices that are split among ranks: each is orthogonalised whole, on every rank.

    torch's own would multiply parts in bfloat16, and rounding there becomes directions of full length."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Any, group: dict[str, Any]) -> None:
        state, gradient, momentum = self.state[weight], weight.grad, group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"]
        mean.lerp_(gradient, 1 - momentum)
        towards = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        move = _orthogonal(towards.full_tensor(), group)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(distribute_tensor(move, weight.device_mesh, weight.placements, src_data_rank=None))


def _orthogonal(towards: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
    """How far torch's Muon moves a whole matrix that has no momentum yet."""
    zero = nn.Parameter(torch.zeros_like(towards))
    zero.grad = towards
    kept = {name: group[name] for name in ("lr", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")}
    torch.optim.Muon([zero], weight_decay=0.0, momentum=0.0, nesterov=False, **kept).step()
    return zero.detach()


class MuonAndAdamW(torch.optim.Optimizer):
    """Groups and state of the parts are its own: what is changed here is changed there."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__([dict(group) for group in groups], {})
        self.param_groups = groups
        self._parts = parts
        for part in parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for part in self._parts:
            part.step()


def _split(
    groups: Sequence[dict[str, Any]], *, outer: Collection[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups of hidden matrices and those of the rest, each with what its group says."""
    matrices: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for group in groups:
        named = list(zip(group["param_names"], group["params"], strict=True))
        for wanted, into in ((True, matrices), (False, others)):
            kept = [(name, p) for name, p in named if (p.ndim == 2 and name not in outer) is wanted]
            if kept:
                into.append({**group, "param_names": [name for name, _ in kept], "params": [p for _, p in kept]})
    return matrices, others
