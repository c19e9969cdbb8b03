"""What a model whose parameters are split among workers cannot have."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.plan.plan import PrecisionPlan
from axo.plan.unfrozen import read_patterns
from axo.recipe.fsdp import FSDPConfig
from axo.recipe.recipe import Recipe
from axo.registry.tables import OPTIMIZERS


def refusals(recipe: Recipe, precision: PrecisionPlan) -> Iterator[Finding]:
    """What stands between the recipe and FSDP."""
    yield from _optimizer(recipe.optim.optimizer)
    yield from _rows(recipe)
    yield from _policy(recipe, precision)


def _optimizer(name: str) -> Iterator[Finding]:
    target = OPTIMIZERS.get(name, "")
    if target.startswith("axo.optim.bitsandbytes:"):
        message = f"is {name}, and bitsandbytes cannot update weights that FSDP splits"
        hint = "set lion_pytorch" if "lion" in name else "set rmsprop" if "rmsprop" in name else "set adamw_torch_8bit"
        yield Finding("optimizer", message, f"{hint}, or adamw_torch_fused")
    if name == "adafactor":
        message = "is adafactor, whose means of rows and columns need whole matrices, and FSDP splits them"
        yield Finding("optimizer", message, "set adamw_torch_8bit, which needs little memory too, or adamw_torch_fused")


def _rows(recipe: Recipe) -> Iterator[Finding]:
    patterns = read_patterns(recipe.adapters.unfrozen_parameters or [])
    if any(pattern.rows is not None for pattern in patterns):
        message = "trains some rows of a parameter, and FSDP splits parameters by rows"
        hint = "name whole parameters, or remove fsdp_config: each worker then holds the model"
        yield Finding("unfrozen_parameters", message, hint)


def _policy(recipe: Recipe, precision: PrecisionPlan) -> Iterator[Finding]:
    asked = (recipe.engines.fsdp_config or FSDPConfig()).mixed_precision_policy
    key = "fsdp_config.mixed_precision_policy"
    if asked == "fp16" and not precision.loss_scaling:
        yield Finding(key, "is fp16, whose gradients vanish without loss scaling", "set fp16: true too, or set bf16")
    if asked == "bf16" and precision.loss_scaling:
        yield Finding(key, "is bf16, and fp16 computes in float16", "set fp16 here too, or bf16: true instead of fp16")
