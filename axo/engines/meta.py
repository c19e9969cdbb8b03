"""One rank reads the weights, the others build the model without: brings them what they lack, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from axo.errors import TrainingError

READER = 0
_HINT = "set cpu_ram_efficient_loading: false in fsdp_config: each worker then reads the weights itself"


class OneReader:
    """Rank 0 holds `module` whole; on the other ranks its tensors have shapes and no values until they are brought."""

    def __init__(self, module: nn.Module, *, device: torch.device) -> None:
        self._device = device
        self._reads = dist.get_rank() == READER
        self._check_alike(module)
        self._owners: dict[int, list[tuple[nn.Module, str]]] = {}
        for owner in module.modules():
            for name, parameter in owner._parameters.items():
                if parameter is not None:
                    self._owners.setdefault(id(parameter), []).append((owner, name))
        self._brought: set[int] = set()

    def bring(self, unit: nn.Module) -> None:
        """The values of all parameters below `unit` that have none yet; a tied one stays tied."""
        waiting = [one for one in unit.parameters() if id(one) in self._owners and id(one) not in self._brought]
        for parameter in waiting:
            values = self._sent(parameter)
            self._brought.add(id(parameter))
            if self._reads:
                continue
            new = nn.Parameter(values, requires_grad=parameter.requires_grad)
            self._brought.add(id(new))
            for owner, name in self._owners[id(parameter)]:
                setattr(owner, name, new)

    def bring_buffers(self, module: nn.Module) -> None:
        """Values that are not trained, such as rotary frequencies, also those that no file holds. Raises TrainingError
        where a module keeps a tensor that nobody can send."""
        sent: dict[int, torch.Tensor] = {}
        for owner in module.modules():
            for name, buffer in owner._buffers.items():
                if buffer is not None and id(buffer) not in sent:
                    sent[id(buffer)] = self._sent(buffer)
                if buffer is not None and not self._reads:
                    owner._buffers[name] = sent[id(buffer)]
        _check_attributes(module)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """The reader's values, on the device of this rank."""
        values = tensor.detach().to(self._device).contiguous() if self._reads else _empty_like(tensor, self._device)
        if values.numel():
            dist.broadcast(values.reshape(-1).view(torch.uint8), READER)  # as bytes: not every backend sends every type
        return values

    def _check_alike(self, module: nn.Module) -> None:
        """Names, shapes and number formats are the reader's."""
        mine = _described([*module.named_parameters(), *module.named_buffers()])
        box: list[Any] = [mine if self._reads else None]
        dist.broadcast_object_list(box, READER)
        theirs: dict[str, tuple[Any, ...]] = box[0]
        if mine == theirs:
            return
        names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        message = f"built without its weights, the model differs from the one that was read, e.g. in {names[0]}: "
        raise TrainingError(f"{message}{mine.get(names[0])} here, {theirs.get(names[0])} there", _HINT)


def _described(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, tuple[Any, ...]]:
    return {name: (tuple(one.shape), str(one.dtype), one.requires_grad) for name, one in tensors}


def _empty_like(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)


def _check_attributes(module: nn.Module) -> None:
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                message = f"{name}.{key} is neither a parameter nor a buffer, so the reading rank cannot send it"
                raise TrainingError(message, _HINT)
