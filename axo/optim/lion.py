"""Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2), for machines without bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn


def lion(
    groups: Sequence[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
) -> Lion:
    """Its betas are adam_beta1 and adam_beta2, as in transformers.Trainer; the paper has 0.9 and 0.99."""
    del eps, settings, module
    return Lion(groups, lr=lr, betas=betas)


class Lion(torch.optim.Optimizer):
    """Moves each weight by lr towards the sign of a mean of gradients."""

    def __init__(self, groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(list(groups), {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient, (beta1, beta2) = parameter.grad, group["betas"]
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        mean = state["exp_avg"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(mean.lerp(gradient, 1 - beta1).sign_(), alpha=group["lr"])
        mean.lerp_(gradient, 1 - beta2)
