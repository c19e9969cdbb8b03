"""Which trained parameters decay, and which learn at a rate of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from axo.errors import Finding, RecipeError, TrainingError
from axo.recipe.adapters import AdapterSection
from axo.recipe.optim import OptimSection

NEVER_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Lower-case names of biases and norms (transformers.Trainer.get_decay_parameter_names)."""
_OUTER = re.compile(r"embed_tokens|lm_head|\.modules_to_save\.\w+\.weight$")
_EMBEDDING_ADAPTER = re.compile(r"\.lora_embedding_[AB]\b")


@dataclass(frozen=True)
class Rates:
    """Learning rates as multiples of the run's; absent: 1."""

    outer_key: str = "embedding_lr"
    """The recipe's key that `outer` comes from."""
    outer: float | None = None
    """Embeddings, the output head and modules_to_save, which then do not decay."""
    parts: tuple[tuple[str, float], ...] = ()
    """Parts of names of decaying parameters, the first that fits counts."""
    lora_b: float | None = None
    """Matrices B of LoRA, biases and vectors (peft.optimizers.create_loraplus_optimizer)."""
    lora_embedding: float | None = None
    """Adapters on embeddings."""


def rates(section: OptimSection, adapters: AdapterSection) -> Rates:
    """What the keys lr_groups, embedding_lr, embedding_lr_scale and loraplus_* ask for."""
    own = section.embedding_lr and section.embedding_lr / section.learning_rate
    parts = [(part, group.lr / section.learning_rate) for group in section.lr_groups or () for part in group.modules]
    if adapters.loraplus_lr_ratio is None:
        key = "embedding_lr_scale" if section.embedding_lr_scale else "embedding_lr"
        return Rates(key, section.embedding_lr_scale or own, tuple(parts))
    embedding = adapters.loraplus_lr_embedding
    return Rates(
        lora_b=adapters.loraplus_lr_ratio,
        lora_embedding=(LORAPLUS_LR_EMBEDDING if embedding is None else embedding) / section.learning_rate,
    )


LORAPLUS_LR_EMBEDDING = 1e-6
"""peft.optimizers.create_loraplus_optimizer's loraplus_lr_embedding."""


def parameter_groups(module: nn.Module, *, weight_decay: float, own: Rates = Rates()) -> list[dict[str, Any]]:
    """Optimizer groups of the parameters that require gradients: at each rate those that decay, then those that never
    do, the run's own rate first.

    A group is {"params", "param_names", "weight_decay", "lr_scale"}; `param_names` runs beside `params`, is torch's own
    key and stays in the optimizer's state_dict, so that state can be saved by name; the engine multiplies the learning
    rate of a step by `lr_scale`. A tied parameter stands once, under its first name. Groups without parameters are left
    out. Raises TrainingError where nothing is trained, RecipeError where nothing has a rate of its own that is set."""
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise TrainingError("no parameter of the model is trained", "choose lora_target_modules that match some")
    outer = outer_names(module) if own.outer is not None else frozenset[str]()
    never = _names_in_layer_norms(module) | {name for name in parameters if NEVER_DECAYED.search(name.lower())}
    _check_matches(own, names=list(parameters), outer=outer, fit=[*parameters.keys() - never - outer])
    cut: dict[tuple[float, float], list[str]] = {(1.0, weight_decay): [], (1.0, 0.0): []}
    for name, parameter in parameters.items():
        decays = name not in never and name not in outer
        scale = _scale(name, own, ndim=parameter.ndim, decays=decays, outer=name in outer)
        cut.setdefault((scale, weight_decay if decays else 0.0), []).append(name)
    return [
        {
            "params": [parameters[name] for name in names],
            "param_names": names,
            "weight_decay": decay,
            "lr_scale": scale,
        }
        for (scale, decay), names in cut.items()
        if names
    ]


def outer_names(module: nn.Module) -> frozenset[str]:
    """Full names of the weights of embeddings, output head and modules_to_save, and of adapters on them."""
    apart = {id(parameter) for parameter in _outer_parameters(module)}
    return frozenset(
        name for name, parameter in module.named_parameters() if id(parameter) in apart or _OUTER.search(name)
    )


def embedding_names(module: nn.Module) -> frozenset[str]:
    """Full names of the weights of nn.Embedding modules."""
    apart = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    return frozenset(name for name, parameter in module.named_parameters() if id(parameter) in apart)


def _outer_parameters(module: nn.Module) -> Iterable[torch.Tensor]:
    for child in module.modules():
        if isinstance(child, nn.Embedding):
            yield child.weight
        find: Any = getattr(child, "get_output_embeddings", None)
        head: nn.Module | None = None if find is None else find()
        if head is not None:
            yield from head.parameters()


def _check_matches(own: Rates, *, names: Collection[str], outer: Collection[str], fit: Collection[str]) -> None:
    """Each rate of its own is that of something; `fit` are the names that a part may take."""
    if own.outer is not None and not any(name in outer for name in names):
        message = "neither embeddings nor output head nor lora_modules_to_save are trained, and this is their rate"
        hint = f"remove {own.outer_key}, or add embed_tokens to lora_modules_to_save"
        raise RecipeError([Finding(own.outer_key, message, hint)])
    examples = ", ".join(sorted(fit)[:: max(1, len(fit) // 4)][:5])
    for part, scale in own.parts:
        taken = [next(first for other, first in own.parts if other in name) for name in fit if part in name]
        if scale in taken:
            continue
        hint = f"weight matrices that are trained are for example {examples}"
        if taken:
            message, hint = f"{part!r} is only in names that an earlier part takes", "put the narrower part first"
        elif any(part in name for name in names):
            message = f"{part!r} is only in names of biases, norms or what has embedding_lr"
        else:
            message = f"{part!r} is in the name of no trained weight"
        raise RecipeError([Finding("lr_groups", message, hint)])


def _scale(name: str, own: Rates, *, ndim: int, decays: bool, outer: bool) -> float:
    if own.lora_b is not None:
        if _EMBEDDING_ADAPTER.search(name):
            return own.lora_embedding or 0.0
        return own.lora_b if "lora_B" in name or ndim == 1 else 1.0
    if outer and own.outer is not None:
        return own.outer
    return next((scale for part, scale in own.parts if decays and part in name), 1.0)


def _names_in_layer_norms(module: nn.Module) -> set[str]:
    """Full names of all parameters inside nn.LayerNorm, whatever it is called (`ln_f` of GPT-2)."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, child in module.named_modules(remove_duplicate=False)
        if isinstance(child, nn.LayerNorm)
        for name, _ in child.named_parameters()
    }
