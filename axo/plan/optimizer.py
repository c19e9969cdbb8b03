"""Which optimizer moves the weights."""

from __future__ import annotations

from collections.abc import Iterator

from axo.errors import Finding, RecipeError
from axo.plan.facts import Hardware
from axo.plan.plan import Decision, EnginePlan, decision
from axo.recipe.optim_settings import optimizer_settings
from axo.recipe.recipe import Recipe
from axo.registry.tables import OPTIMIZERS

_UNPAGED = {
    "paged_adamw_32bit": "adamw_torch_fused",
    "paged_adamw_8bit": "adamw_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
}
"""The same update with its state beside the weights."""


def plan_optimizer(recipe: Recipe, hardware: Hardware, engine: EnginePlan, decisions: list[Decision]) -> str:
    """The name of OPTIMIZERS that runs; what was decided is added to `decisions`.

    Raises RecipeError where a package is missing and nothing else computes the same update."""
    asked = recipe.optim.optimizer
    effective, reasons = asked, list[str]()
    if engine.device == "cpu" and effective in _UNPAGED:
        effective = _UNPAGED[effective]
        reasons.append("there is no GPU memory to page out of")
    package = _package(effective)
    if package is not None and package not in hardware.packages:
        effective = _without(package, effective)
        reasons.append(f"the package {package} is not installed")
    if effective == asked:
        why = "as asked" if "optimizer" in recipe.optim.model_fields_set else "Axolotl default"
    else:
        why = " and ".join(reasons) + _dropped(recipe, effective)
    decisions.append(decision("optimizer", asked, effective, why, fallback=effective != asked))
    if recipe.optim.lr_scheduler == "one_cycle":
        why = "the learning rate alone; Axolotl moves beta1 between 0.85 and 0.95 too"
        decisions.append(decision("lr_scheduler", "one_cycle", "one_cycle", why))
    decisions += _own_rates(recipe)
    return effective


def _own_rates(recipe: Recipe) -> Iterator[Decision]:
    """Learning rates that are not the run's."""
    section, adapters = recipe.optim, recipe.adapters
    for number, group in enumerate(section.lr_groups or ()):
        times = f"{group.lr / section.learning_rate:g} x learning_rate"
        why = f"weight matrices with {' or '.join(group.modules)} in their names"
        yield decision(f"lr_groups.{number}", group.name, f"{group.lr:g} ({times})", why)
    scale = section.embedding_lr_scale or (section.embedding_lr and section.embedding_lr / section.learning_rate)
    if scale:
        key = "embedding_lr_scale" if section.embedding_lr_scale else "embedding_lr"
        rate = f"{scale * section.learning_rate:g} ({scale:g} x learning_rate)"
        yield decision(key, getattr(section, key), rate, "embeddings, output head and lora_modules_to_save; no decay")
    if adapters.loraplus_lr_ratio is not None:
        rate = f"{adapters.loraplus_lr_ratio * section.learning_rate:g}"
        yield decision("loraplus_lr_ratio", adapters.loraplus_lr_ratio, rate, "learning rate of the matrices B")


def _package(name: str) -> str | None:
    """What an optimizer needs beside torch and transformers."""
    module = OPTIMIZERS.get(name, "").partition(":")[0].rpartition(".")[2]
    return module if module in ("bitsandbytes", "torchao") else None


def _without(package: str, name: str) -> str:
    """The twin that needs nothing: the same update, its state in 32 bits."""
    for kind, twin in (("adamw", "adamw_torch_fused"), ("lion", "lion_pytorch"), ("rmsprop", "rmsprop")):
        if kind in name:
            return twin
    message = f"{name} needs the package {package}, which is not installed"
    raise RecipeError(
        [Finding("optimizer", message, f"`pip install 'axo[{package}]'`, or set optimizer: adamw_torch_fused")]
    )


def _dropped(recipe: Recipe, effective: str) -> str:
    """What of optim_args means nothing to the optimizer that runs instead."""
    given = optimizer_settings(recipe.optim)
    lost = [key for key in given if key not in optimizer_settings(recipe.optim, name=effective)]
    return f"; {', '.join(lost)} of optim_args has no effect" if lost else ""
