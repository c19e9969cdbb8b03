"""How many bytes of weights, gradients and optimizer state each rank holds, by closed formulas.

Source of what each ZeRO stage splits: Rajbhandari et al. 2020, arXiv 1910.02054, section 3 and figure 1. FSDP2 splits
the same things, each parameter along its first dimension (torch.distributed.fsdp.fully_shard). Activations, buffers of
collectives and what the allocator wastes are not counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
from types import MappingProxyType
from typing import Any, Literal

from axo.plan.memory_bytes import Place, state_bytes

Part = Literal["weights", "gradients", "states"]


@dataclass(frozen=True)
class Tensor:
    """One parameter of the model."""

    name: str
    shape: tuple[int, ...]
    weight_bytes: int = 2
    """Of each number, as stored."""
    packed_bytes: float | None = None
    """Of all numbers together, where the weight is frozen and stored in few bits."""
    kept_whole: bool = False
    """FSDP2 cannot split it: weights in 8 bits, whose scales stand beside them."""
    trained: bool = False
    master_bytes: int = 0
    """Of a second, wider copy of each weight, which the optimizer updates."""
    place: Place = "inside"


@dataclass(frozen=True)
class Optimizer:
    name: str = "adamw_torch_fused"
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Split:
    """Among how many ranks each part is divided, and how."""

    weights: int = 1
    gradients: int = 1
    states: int = 1
    """Optimizer state and masters."""
    by: Literal["rows", "numbers"] = "rows"
    """Along the first dimension of each parameter (FSDP2), or as one long row of numbers (ZeRO)."""
    on_cpu: frozenset[Part] = frozenset()
    """Parts that lie in CPU memory."""
    sums_whole: bool = False
    """Each rank holds all gradients until the last micro-batch of a step, in `gradient_bytes`."""
    gradient_bytes: int | None = None
    """Of each number of a gradient that is summed up whole; None: as stored."""
    gathered: Literal["layers", "all"] | int | None = None
    """Weights of other ranks that are held while the model computes: those of the outer parts and two layers (one is
    computed, the next one fetched), all of them, or so many numbers, at least those of one matrix; None: none."""
    gathered_bytes: int | None = None
    """Of each gathered number; None: as stored."""


@dataclass(frozen=True)
class Held:
    """Bytes of one rank: the one with most, where they differ."""

    weights: float
    gradients: float
    states: float
    gathered: float
    on_cpu: frozenset[Part] = frozenset()

    @property
    def total(self) -> float:
        """Wherever they lie; what is gathered comes on top, for a while."""
        return self.weights + self.gradients + self.states

    @property
    def on_device(self) -> float:
        parts = {"weights": self.weights, "gradients": self.gradients, "states": self.states}
        return sum(held for part, held in parts.items() if part not in self.on_cpu)


def held(tensors: Iterable[Tensor], split: Split, *, optimizer: Optimizer = Optimizer()) -> Held:
    """What the first rank holds; no other one holds more. Raises NotKnown for optimizers of unknown state."""
    tensors = tuple(tensors)
    trained = [one for one in tensors if one.trained]
    return Held(
        weights=sum(_weights(one, split) for one in tensors),
        gradients=sum(_gradient(one, split) for one in trained),
        states=sum(_state(one, split, optimizer) for one in trained),
        gathered=_gathered(tensors, split),
        on_cpu=split.on_cpu,
    )


def local(shape: tuple[int, ...], ranks: int, by: Literal["rows", "numbers"]) -> tuple[int, ...]:
    """The first rank's part of a tensor. FSDP2 cuts the first dimension into pieces of ceil(rows / ranks)
    (torch.chunk), ZeRO all numbers as one row."""
    if ranks == 1 or not shape:
        return shape
    return (ceil(shape[0] / ranks), *shape[1:]) if by == "rows" else (ceil(prod(shape) / ranks),)


def strategies(ranks: int, *, gathered_bytes: int | None = None) -> Mapping[str, Split]:
    """What each engine splits among `ranks`."""
    return {
        "ddp": Split(),
        "fsdp": Split(ranks, ranks, ranks, gathered="layers", gathered_bytes=gathered_bytes),
        "zero1": Split(1, 1, ranks, by="numbers"),
        "zero2": Split(1, ranks, ranks, by="numbers"),
        "zero3": Split(ranks, ranks, ranks, by="numbers", gathered=LIVE_PARAMETERS),
    }


LIVE_PARAMETERS = 1_000_000_000
"""stage3_max_live_parameters of DeepSpeed, unless its configuration says otherwise."""


def with_masters(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The same under DeepSpeed in 16 bits, which updates float32 copies: K = 12 of the paper with Adam."""
    return tuple(replace(one, master_bytes=4) if one.trained else one for one in tensors)


def _weights(tensor: Tensor, split: Split) -> float:
    if tensor.packed_bytes is not None:
        whole = tensor.kept_whole and split.by == "rows"
        return tensor.packed_bytes if whole else ceil(tensor.packed_bytes / split.weights)
    return tensor.weight_bytes * prod(local(tensor.shape, split.weights, split.by))


def _gradient(tensor: Tensor, split: Split) -> int:
    if split.sums_whole:
        return (split.gradient_bytes or tensor.weight_bytes) * prod(tensor.shape)
    return tensor.weight_bytes * prod(local(tensor.shape, split.gradients, split.by))


def _state(tensor: Tensor, split: Split, optimizer: Optimizer) -> float:
    shape = local(tensor.shape, split.states, split.by)
    own = state_bytes(
        optimizer.name,
        shape,
        weight_bytes=tensor.master_bytes or tensor.weight_bytes,
        place=tensor.place,
        settings=optimizer.settings,
    )
    return own + tensor.master_bytes * prod(shape)


_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


def _gathered(tensors: Iterable[Tensor], split: Split) -> float:
    """Bytes of whole tensors that the first rank holds only while they are used."""
    if split.gathered is None or split.weights == 1:
        return 0
    tensors = tuple(tensors)
    layers: dict[str, float] = {}
    outer, numbers = 0.0, 0
    for one in tensors:
        found = _LAYER.search(one.name)
        size = _whole(one, split)
        numbers += prod(one.shape)
        if found is None:
            outer += size
        else:
            layers[found[1]] = layers.get(found[1], 0) + size
    everything = outer + sum(layers.values())
    if split.gathered == "all":
        return everything
    if split.gathered == "layers":
        return outer + sum(sorted(layers.values())[-2:])
    return max(everything * min(1, split.gathered / max(1, numbers)), max(_whole(one, split) for one in tensors))


def _whole(tensor: Tensor, split: Split) -> float:
    if tensor.packed_bytes is not None:
        return 0 if tensor.kept_whole and split.by == "rows" else tensor.packed_bytes
    return prod(tensor.shape) * (split.gathered_bytes or tensor.weight_bytes)
