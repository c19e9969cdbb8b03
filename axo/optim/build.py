"""The optimizer of a recipe over the trained parameters of a module.

Every target of OPTIMIZERS is called as `make(groups, *, lr, betas, eps, settings, module)` and gives one
torch.optim.Optimizer: `groups` are those of parameter_groups, betas and eps those of the adam_ keys, which only some
read, `settings` what optim_args says, by upstream's names, and `module` is what the groups are of."""

from __future__ import annotations

import torch
from torch import nn

from axo.optim.groups import parameter_groups, rates
from axo.recipe.adapters import AdapterSection
from axo.recipe.optim import OptimSection
from axo.recipe.optim_settings import optimizer_settings
from axo.registry.tables import OPTIMIZERS


def make_optimizer(
    module: nn.Module, *, name: str, section: OptimSection, adapters: AdapterSection
) -> torch.optim.Optimizer:
    """`name` is one of OPTIMIZERS, as the Plan says. TrainingError where nothing is trained."""
    return OPTIMIZERS.load(name)(
        parameter_groups(module, weight_decay=section.weight_decay, own=rates(section, adapters)),
        lr=section.learning_rate,
        betas=(section.adam_beta1, section.adam_beta2),
        eps=section.adam_epsilon,
        settings=optimizer_settings(section, name=name),
        module=module,
    )
