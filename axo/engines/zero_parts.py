"""Parameters that ZeRO-3 has left in parts: whole while they are read, and how large they are (DeepSpeed's `ds_`
attributes; DeepSpeed itself is not imported)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import nn


def in_parts(tensor: torch.Tensor) -> bool:
    """Whether a rank holds only its share of a parameter."""
    return hasattr(tensor, "ds_id")


@contextmanager
def gathering(module: nn.Module) -> Iterator[None]:
    """Within, a module may be called before the engine has wrapped it: each of its parts has its own parameters whole
    while it runs. All ranks must call it alike."""
    handles: list[Any] = []
    for part in module.modules():
        own = [parameter for parameter in part.parameters(recurse=False) if in_parts(parameter)]
        if own:
            handles.append(part.register_forward_pre_hook(_gather(own)))
            handles.append(part.register_forward_hook(_release(own), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def whole_weights(module: nn.Module, *, trained_only: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole value of each entry of the state dict, or of the trained ones, gathered module by module: all
    ranks must go through it to its end together."""
    entries: dict[str, Any] = module.state_dict(keep_vars=True)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    wanted = [(name, value) for name, value in entries.items() if not trained_only or name in trained]
    for _, group in groupby(wanted, key=lambda entry: entry[0].rpartition(".")[0]):
        held = list(group)
        parts = [value for _, value in held if in_parts(value)]
        _gather(parts)()
        try:
            yield from ((name, value.detach()) for name, value in held)
        finally:
            _release(parts)()


def _gather(parameters: Sequence[Any]) -> Any:
    def gather(*unused: Any) -> None:
        missing = [parameter for parameter in parameters if parameter.ds_status.name == "NOT_AVAILABLE"]
        if missing:
            missing[0].all_gather(missing)

    return gather


def _release(parameters: Sequence[Any]) -> Any:
    def release(*unused: Any) -> None:
        whole = [one for one in parameters if one.ds_status.name == "AVAILABLE" and not one.ds_persist]
        if whole:
            whole[0].partition(whole)

    return release
