"""Optimizers of torch and transformers that read none of the adam_ keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
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


def _of_torch(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
    kind: type[torch.optim.Optimizer],
) -> torch.optim.Optimizer:
    """Only optim_args says more than the learning rate: SGD is without momentum unless it does, and the eps of RMSprop
    is its own, as in transformers.Trainer, not adam_epsilon."""
    del betas, eps, module
    make: Any = kind
    return make(list(groups), lr=lr, **settings)


sgd = partial(_of_torch, kind=torch.optim.SGD)
adagrad = partial(_of_torch, kind=torch.optim.Adagrad)
"""Duchi et al. 2011 (JMLR 12)."""
rmsprop = partial(_of_torch, kind=torch.optim.RMSprop)
