"""Optimizers of torch and transformers that read none of the adam_ keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from axo.optim.upstream import quiet_import

Groups = Sequence[dict[str, Any]]


def adafactor(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
) -> torch.optim.Optimizer:
    """Second moments by rows and columns (Shazeer and Stern 2018, arXiv 1804.04235), at the given learning rate: scaled
    neither by the weights nor by the step, as transformers.Trainer does."""
    del betas, eps, module
    make = quiet_import("transformers.optimization").Adafactor
    return make(list(groups), lr=lr, **{"scale_parameter": False, "relative_step": False, **settings})


def sgd(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
) -> torch.optim.SGD:
    """Without momentum unless optim_args says so."""
    del betas, eps, module
    return torch.optim.SGD(list(groups), lr=lr, **settings)


def adagrad(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
) -> torch.optim.Adagrad:
    """Duchi et al. 2011 (JMLR 12)."""
    del betas, eps, module
    return torch.optim.Adagrad(list(groups), lr=lr, **settings)


def rmsprop(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
) -> torch.optim.RMSprop:
    """Its eps is that of optim_args, as in transformers.Trainer, not adam_epsilon."""
    del betas, eps, module
    return torch.optim.RMSprop(list(groups), lr=lr, **settings)
