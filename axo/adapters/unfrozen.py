"""Full fine-tuning of some parameters, or of some rows of them, while the others stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from axo.errors import RecipeError
from axo.plan.unfrozen import faults, read_patterns, rows_of

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


def unfreeze(model: nn.Module, texts: Sequence[str]) -> dict[nn.Parameter, torch.Tensor]:
    """Train what the patterns name and freeze the rest. Returns, for each parameter of which only rows are trained, a
    mask of these rows, (rows, 1, ...) bool; gradients of the others are zero.

    Raises RecipeError for patterns that match no parameter, and rows that it does not have."""
    patterns, named = read_patterns(texts), dict(model.named_parameters())
    findings = list(faults(patterns, {name: parameter.shape for name, parameter in named.items()}))
    if findings:
        raise RecipeError(findings)
    masks: dict[nn.Parameter, torch.Tensor] = {}
    for name, parameter in named.items():
        parameter.requires_grad_(any(pattern.matches(name) for pattern in patterns))
        rows = rows_of(patterns, name=name, num_rows=len(parameter)) if parameter.ndim else None
        if rows is not None:
            masks[parameter] = _mask(parameter, rows)
            parameter.register_hook(_only(masks[parameter]))
    return masks


def keeping_rows(make_optimizer: MakeOptimizer, masks: Mapping[nn.Parameter, torch.Tensor]) -> MakeOptimizer:
    """The same, whose optimizer leaves the rows outside the masks as they are: a gradient of zero would not keep weight
    decay from them. Holds a copy of these rows."""

    def make(module: nn.Module) -> torch.optim.Optimizer:
        optimizer = make_optimizer(module)
        if masks:
            frozen = [(parameter, *_frozen(parameter, mask)) for parameter, mask in masks.items()]
            optimizer.register_step_post_hook(_restoring(frozen))
        return optimizer

    return make


def _mask(parameter: nn.Parameter, rows: Sequence[range]) -> torch.Tensor:
    mask = torch.zeros(len(parameter), *[1] * (parameter.ndim - 1), dtype=torch.bool, device=parameter.device)
    for part in rows:
        mask[part.start : part.stop] = True
    return mask


def _only(mask: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: gradient.masked_fill(~mask.to(gradient.device), 0)


def _frozen(parameter: nn.Parameter, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = (~mask.flatten()).nonzero().squeeze(1).to(parameter.device)
    return rows, parameter.detach().index_select(0, rows)


def _restoring(frozen: Sequence[tuple[nn.Parameter, torch.Tensor, torch.Tensor]]) -> Any:
    @torch.no_grad()
    def restore(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, rows, values in frozen:
            parameter.index_copy_(0, rows, values)

    return restore
