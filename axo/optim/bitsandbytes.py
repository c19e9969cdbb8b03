"""Optimizers of bitsandbytes: their state in 8 bits (Dettmers et al. 2022, arXiv 2110.02861) or paged to CPU memory.

They are made as transformers.Trainer makes them. Tensors of fewer than 4,096 numbers and embeddings keep 32 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from axo.optim.groups import embedding_names
from axo.optim.upstream import quiet_import

Groups = Sequence[dict[str, Any]]
BETA3, ALPHA = 0.9999, 5.0
"""Of AdEMAMix (Pagliardini et al. 2024, arXiv 2409.03137) in transformers.trainer_optimizer."""


def _adamw(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
    bits: int,
    paged: bool = False,
) -> torch.optim.Optimizer:
    kinds = _kinds()
    optimizer = kinds.AdamW(groups, lr=lr, betas=betas, eps=eps, optim_bits=bits, is_paged=paged, **settings)
    return _settle(optimizer, module, bits=bits)


def _lion(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
    bits: int,
    paged: bool = False,
) -> torch.optim.Optimizer:
    del eps
    optimizer = _kinds().Lion(groups, lr=lr, betas=betas, optim_bits=bits, is_paged=paged, **settings)
    return _settle(optimizer, module, bits=bits)


def _rmsprop(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
    bits: int,
) -> torch.optim.Optimizer:
    del betas, eps
    return _settle(_kinds().RMSprop(groups, lr=lr, optim_bits=bits, **settings), module, bits=bits)


def _ademamix(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
    bits: int,
    paged: bool = False,
) -> torch.optim.Optimizer:
    others = dict(settings)
    three = (others.pop("beta1", betas[0]), others.pop("beta2", betas[1]), others.pop("beta3", BETA3))
    optimizer = _kinds().AdEMAMix(
        groups, lr=lr, betas=three, optim_bits=bits, is_paged=paged, **{"alpha": ALPHA, "eps": eps, **others}
    )
    return _settle(optimizer, module, bits=bits)


adamw_8bit = partial(_adamw, bits=8)
paged_adamw_8bit = partial(_adamw, bits=8, paged=True)
paged_adamw_32bit = partial(_adamw, bits=32, paged=True)
lion_8bit, lion_32bit = partial(_lion, bits=8), partial(_lion, bits=32)
paged_lion_8bit, paged_lion_32bit = partial(_lion, bits=8, paged=True), partial(_lion, bits=32, paged=True)
ademamix_8bit, ademamix_32bit = partial(_ademamix, bits=8), partial(_ademamix, bits=32)
paged_ademamix_8bit = partial(_ademamix, bits=8, paged=True)
paged_ademamix_32bit = partial(_ademamix, bits=32, paged=True)
rmsprop_8bit, rmsprop_32bit = partial(_rmsprop, bits=8), partial(_rmsprop, bits=32)


def _kinds() -> Any:
    return quiet_import("bitsandbytes.optim")


def _settle(optimizer: Any, module: nn.Module, *, bits: int) -> torch.optim.Optimizer:
    """Keep 32 bits for embeddings (as transformers.Trainer, which says so to a manager that all optimizers of a process
    share: this optimizer gets one of its own)."""
    kind: Any = type(optimizer.mng)
    manager = kind.__new__(kind)
    manager.initialize()
    optimizer.mng = manager
    if bits == 8:
        embeddings = embedding_names(module)
        for group in optimizer.param_groups:
            for name, parameter in zip(group["param_names"], group["params"], strict=True):
                if name in embeddings:
                    manager.pid2config[id(parameter)] = {"optim_bits": 32}
    return optimizer
