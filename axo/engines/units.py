"""Which modules of a model FSDP2 shards as a unit: their parameters are gathered together, just before they compute."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from axo.errors import Finding, RecipeError
from axo.plan.plan import FSDPPlan


def units(objective: nn.Module, settings: FSDPPlan) -> list[nn.Module]:
    """Each before those that hold it; what is in none of them is the root's.

    Raises RecipeError for classes that the model's layers do not have, and where nothing can be a unit."""
    inside = _decoder(objective)
    if settings.min_num_params is not None:
        return list(_large(inside, settings.min_num_params))
    if not settings.layer_classes:
        return _of_classes(inside, _unsplit(objective))
    _check_classes(inside, settings.layer_classes)
    return _of_classes(inside, settings.layer_classes)


def _decoder(objective: nn.Module) -> nn.Module:
    """The part whose modules are computed by calling them: the head is called by the loss."""
    model: Any = getattr(objective, "model", objective)
    unwrap = getattr(model, "get_base_model", None)
    model = model if unwrap is None else unwrap()
    return getattr(model, "base_model", model)


def _unsplit(objective: nn.Module) -> set[str]:
    """The layers, by the class names that the model's code says not to split."""
    return {name for module in objective.modules() for name in getattr(module, "_no_split_modules", None) or ()}


def _of_classes(inside: nn.Module, names: Collection[str]) -> list[nn.Module]:
    found = [module for _, module in _parts(inside) if type(module).__name__ in names and _has_weights(module)]
    return found[::-1]


def _parts(inside: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What may be a unit: neither the embeddings, which may be tied to the head, nor parts of an adapter."""
    embeddings = {id(module) for module in inside.modules() if isinstance(module, nn.Embedding)}
    for name, module in inside.named_modules():
        holds = any(id(part) in embeddings for part in module.modules())
        if module is not inside and not holds and not isinstance(module, nn.ModuleList | nn.ModuleDict):
            yield name, module


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _check_classes(inside: nn.Module, names: Collection[str]) -> None:
    repeated = {type(module).__name__ for _, module in _parts(inside) if next(module.children(), None) is not None}
    existing = {type(module).__name__ for _, module in _parts(inside)}
    unknown = [name for name in names if name not in existing]
    if unknown:
        message = f"the layers of this model are not of the class {' or '.join(unknown)}"
        hint = f"classes that can be units here: {', '.join(sorted(repeated))}"
        raise RecipeError([Finding("fsdp_config.transformer_layer_cls_to_wrap", message, hint)])


def _large(inside: nn.Module, least: int) -> Iterator[nn.Module]:
    """Modules of at least so many parameters outside of the units in them. Single matrices go with what holds them:
    some layers read them without calling them."""
    allowed = {id(module) for _, module in _parts(inside) if _is_block(module)}

    def walk(module: nn.Module) -> Iterator[nn.Module]:
        """Units in `module`; its own parameters that are in none of them are counted afterwards."""
        for child in module.children():
            yield from walk(child)
        if id(module) in allowed and _num_free(module, taken) >= least:
            taken.update(id(parameter) for parameter in module.parameters())
            yield module

    taken: set[int] = set()
    yield from walk(inside)


def _is_block(module: nn.Module) -> bool:
    return next(module.children(), None) is not None and not hasattr(module, "base_layer")


def _num_free(module: nn.Module, taken: Collection[int]) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if id(parameter) not in taken)
