"""Liger's kernels on one model, without what they would leave behind for every other model of the process.

Its apply functions take a model, and beside changing that put their classes into transformers' module for all models
made later (liger_kernel/transformers/monkey_patch.py; linkedin/Liger-Kernel#242). What they change there is put back.
Needed for liger-kernel >= 0.5, seen in 0.8.5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

import torch

from axo.errors import Finding, HardwareError, RecipeError

ALL_PARTS = (
    "rope", "cross_entropy", "fused_linear_cross_entropy", "rms_norm", "layer_norm", "swiglu", "geglu", "relu_squared",
)  # fmt: skip
"""What an apply function can be told to replace; whatever is not asked for is declined by name, for most is on."""


def apply_liger(model: Any, *, parts: Sequence[str]) -> None:
    """Let Liger compute `parts` of a transformers model. Raises HardwareError where Liger cannot be imported, and
    RecipeError where it has no kernels for the model."""
    apply = _apply_function(model.config.model_type)
    known = signature(apply).parameters
    lacking = [part for part in parts if part not in known]
    if lacking:
        raise _refusal(f"Liger has no {', '.join(lacking)} for {model.config.model_type!r}")
    switches = {part: part in parts for part in ALL_PARTS if part in known}
    with _left_as_they_are(type(model).__module__):
        apply(model=model, **switches)


def _apply_function(model_type: str) -> Callable[..., None]:
    try:
        patches = import_module("liger_kernel.transformers.monkey_patch")
    except (ImportError, RuntimeError) as error:  # RuntimeError: triton without a driver
        hint = "install liger-kernel with triton, or remove the liger_ keys"
        raise HardwareError(f"liger-kernel cannot be imported: {error}", hint) from error
    functions = patches.MODEL_TYPE_TO_APPLY_LIGER_FN
    if model_type not in functions:
        raise _refusal(f"Liger has no kernels for {model_type!r}")
    return functions[model_type]


def _refusal(message: str) -> RecipeError:
    return RecipeError([Finding("liger_rms_norm", message, "remove the liger_ keys")])


@contextmanager
def _left_as_they_are(name: str) -> Iterator[None]:
    """The module of the model's class, what its parent packages hold of its family, and torch's functions are put
    back as they were."""
    family = name.rpartition(".")[0]
    modules: list[ModuleType] = [sys.modules[name], torch.nn.functional]
    modules += [module for other, module in sys.modules.items() if other.startswith(f"{family}.") and other != name]
    before = [(module, dict(vars(module))) for module in modules]
    classes = {value: dict(vars(value)) for _, names in before for value in names.values() if _is_own(value, family)}
    try:
        yield
    finally:
        for module, names in before:
            _put_back(module, names)
        for one, names in classes.items():
            _put_back(one, names)


def _is_own(value: Any, family: str) -> bool:
    return isinstance(value, type) and value.__module__.startswith(f"{family}.")


def _put_back(holder: Any, names: dict[str, Any]) -> None:
    for name in [name for name in vars(holder) if name not in names and not name.startswith("__")]:
        delattr(holder, name)
    for name, value in names.items():
        if vars(holder).get(name) is not value and not name.startswith("__"):
            setattr(holder, name, value)
