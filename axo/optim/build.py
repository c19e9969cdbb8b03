"""The optimizer of a recipe over the trained parameters of a module."""

from __future__ import annotations

import torch
from torch import nn

from axo.optim.groups import parameter_groups
from axo.recipe.adapters import AdapterSection
from axo.recipe.optim import OptimSection
from axo.registry.tables import OPTIMIZERS


def make_optimizer(
    module: nn.Module, *, name: str, section: OptimSection, adapters: AdapterSection
) -> torch.optim.Optimizer:
    """`name` is one of OPTIMIZERS, as the Plan says. TrainingError where nothing is trained."""
    del adapters
    return OPTIMIZERS.load(name)(
        parameter_groups(module, weight_decay=section.weight_decay),
        lr=section.learning_rate,
        betas=(section.adam_beta1, section.adam_beta2),
        eps=section.adam_epsilon,
    )
