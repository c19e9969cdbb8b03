"""What of a recipe cannot run on DeepSpeed, and at which stage."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding
from axo.plan.deepspeed_file import KEY, Written
from axo.plan.facts import Facts
from axo.plan.plan import EnginePlan, PrecisionPlan
from axo.plan.unfrozen import read_patterns
from axo.recipe.recipe import Recipe

_WHOLE = "set stage 2, which splits no parameters"
_PIECEWISE = {
    "adagrad": "DeepSpeed makes it anew and drops its groups of parameters",
    "adafactor": "its state is by rows and columns of whole matrices, DeepSpeed splits them",
}
"""Optimizers that do not move a weight by what they know of this weight alone."""


def limits(
    recipe: Recipe, facts: Facts, written: Written, engine: EnginePlan, precision: PrecisionPlan
) -> Iterator[Finding]:
    """A finding for each."""
    if "deepspeed" not in facts.hardware.packages:
        yield Finding(KEY, "needs the package deepspeed, not installed here", "`pip install 'axo[deepspeed]'`")
    if precision.loss_scaling and engine.device == "cpu":
        yield Finding("fp16", "DeepSpeed computes float16 on a GPU only", "set bf16: true, or remove deepspeed")
    yield from _of_optimizers(recipe, written, engine)
    yield from _of_rows(recipe)
    if written.at("zero_optimization.stage") == 3:
        yield from _of_split_parameters(recipe)


def _of_optimizers(recipe: Recipe, written: Written, engine: EnginePlan) -> Iterator[Finding]:
    name = recipe.optim.optimizer
    if name in _PIECEWISE:
        yield Finding("optimizer", f"{name} does not run under deepspeed: {_PIECEWISE[name]}", "adamw_torch_fused does")
    moved = written.at("zero_optimization.offload_optimizer.device") == "cpu"
    if moved and engine.device == "cuda" and _is_bitsandbytes(name):
        message = f"{name} computes on the GPU, and offload_optimizer keeps its state on the CPU"
        yield Finding("optimizer", message, "set optimizer: adamw_torch_fused, or remove offload_optimizer")


def _is_bitsandbytes(name: str) -> bool:
    return "bnb" in name or name.startswith(("adamw_8bit", "paged_", "lion_8bit", "lion_32bit", "ademamix"))


def _of_rows(recipe: Recipe) -> Iterator[Finding]:
    patterns = recipe.adapters.unfrozen_parameters
    if patterns and any(pattern.rows is not None for pattern in read_patterns(patterns)):
        message = "names rows, which DeepSpeed's flat shares of the weights do not know"
        yield Finding("unfrozen_parameters", message, "name whole parameters, or remove deepspeed")


def _of_split_parameters(recipe: Recipe) -> Iterator[Finding]:
    """Code that reads whole weights outside the module that owns them."""
    adapters, kernels = recipe.adapters, recipe.kernels
    start = adapters.peft_init_lora_weights
    asked = {
        "peft_trainable_token_indices": bool(adapters.peft_trainable_token_indices),
        "peft_use_dora": bool(adapters.peft_use_dora),
        "peft_init_lora_weights": isinstance(start, str) and start != "gaussian",
        "lora_mlp_kernel": bool(kernels.lora_mlp_kernel),
        "torch_compile": kernels.torch_compile is True,
        "load_in_8bit": recipe.quantization.load_in_8bit is True,
        "gptq": recipe.quantization.gptq is True,
    }
    for key, on in asked.items():
        if on:
            yield Finding(key, "needs whole weights, and ZeRO stage 3 splits them", f"{_WHOLE}, or remove {key}")
