"""AdamW of torchao, its state in 8 bits (Dettmers et al. 2022, arXiv 2110.02861) or in 4 (arXiv 2309.01507).

The update is compiled by torch at the first step; on a CPU that takes a C++ compiler. Tensors of fewer than 4,096
numbers, or whose size is no multiple of block_size, keep their state as wide as the weights."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from axo.errors import TrainingError
from axo.optim.upstream import quiet_import

BLOCK_SIZE = 256
"""transformers.trainer_optimizer's, of both."""


def _adamw(
    groups: Sequence[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    settings: Mapping[str, Any],
    module: nn.Module,
    kind: str,
) -> torch.optim.Optimizer:
    on_cpu = next(module.parameters()).device.type == "cpu"
    if on_cpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise TrainingError(
            "torchao's optimizers are compiled at the first step, and there is no C++ compiler",
            "install g++, or set optimizer: adamw_bnb_8bit",
        )
    warnings.filterwarnings("ignore", message=".*_stable_hash_for_caching")  # of torch's compiler, to torchao's authors
    make = getattr(quiet_import("torchao.optim"), kind)
    return make(list(groups), lr=lr, betas=betas, eps=eps, **{"block_size": BLOCK_SIZE, **settings})


adamw_8bit = partial(_adamw, kind="AdamW8bit")
adamw_4bit = partial(_adamw, kind="AdamW4bit")


def state_class(name: str) -> Any:
    """The kind of tensor that holds a part of the state, by its name in a checkpoint."""
    modules = {"OptimState8bit": "torchao.optim.subclass_8bit", "OptimState4bit": "torchao.optim.subclass_4bit"}
    return getattr(quiet_import(modules[name]), name)
