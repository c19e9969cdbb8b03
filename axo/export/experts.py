"""Low-rank changes of experts: transformers holds those of a layer as one tensor, most checkpoints hold them apart.

The mapping is that of transformers' loader (5.23, conversion_mapping.py, "mixtral" and "qwen2_moe"): one tensor of a
layer is the experts' matrices in order, and `gate_up_proj` has the rows of the gate above those of `up`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from axo.errors import CheckpointError
from axo.export.changes import Change, LowRank, Scratch, add_product
from axo.export.lora import Adapter, Wrapped
from axo.export.source import Source

_APART: Mapping[str, Sequence[tuple[str, ...]]] = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
_TRANSPOSED = frozenset({"aria_text", "gpt_oss", "openai_privacy_filter"})
"""Model types whose experts are (in, out) (transformers 5.23: use_experts_implementation(is_transposed=True))."""
_OF_EXPERT = re.compile(r"(.+)\.(\d+)\.(\w+)\.weight")


@dataclass(frozen=True)
class _Stack:
    """How the file holds one parameter of the model: as one tensor, or a tensor for each expert and part."""

    experts: int
    out_features: int
    in_features: int
    transposed: bool
    """Stored as (experts, in, out)."""
    places: Mapping[str, tuple[int, int]]
    """File's name -> (expert, first of its output rows); a tensor of all experts has the expert -1."""

    def fits(self, wrapped: Wrapped, rank: int) -> bool:
        down, up = wrapped.down.shape, wrapped.up.shape
        inner = rank * self.experts
        return down == (inner, self.in_features) and up == (self.out_features, inner)


@dataclass(frozen=True)
class _Product:
    """The products of all experts, scale * B_e @ A_e (peft 0.21, lora/layer.py, ParamWrapper.get_delta_weight)."""

    wrapped: Wrapped
    rank: int
    scale: float
    experts: int

    def factors(self, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(out, r) and (r, in) of one expert."""
        up, down = self.wrapped.up.matrix(), self.wrapped.down.matrix()
        return up.view(-1, self.rank, self.experts)[:, :, expert], down.view(self.experts, self.rank, -1)[expert]


@dataclass(frozen=True)
class ExpertPart:
    """The change of a matrix that one expert has to itself in the file."""

    product: _Product
    expert: int
    first: int

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        del shape  # the stack was chosen by its shapes
        return None

    def apply(self, rows: torch.Tensor, start: int, *, source: Source, scratch: Scratch) -> torch.Tensor:
        del source
        left, right = self.product.factors(self.expert)
        first = self.first + start
        part = left[first : first + len(rows)]
        return add_product(rows, part, right, scale=self.product.scale, scratch=scratch)


@dataclass(frozen=True)
class ExpertStack:
    """The change of a tensor that holds all experts of a layer."""

    product: _Product
    transposed: bool

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        del shape
        return None

    def apply(self, rows: torch.Tensor, start: int, *, source: Source, scratch: Scratch) -> torch.Tensor:
        changed = torch.empty(rows.shape, dtype=torch.promote_types(rows.dtype, torch.float32))
        for at, row in enumerate(rows):
            left, right = self.product.factors(start + at)
            left, right = (right.T, left.T) if self.transposed else (left, right)
            matrix = row.view(source.shape[1:])
            changed[at] = add_product(matrix, left, right, scale=self.product.scale, scratch=scratch).view(-1)
        return changed


def place_experts(adapter: Adapter, tensors: Mapping[str, Source], *, model_type: str | None) -> dict[str, Change]:
    """The change of each tensor of the file that a low-rank change of a parameter of the model comes down to.

    Raises CheckpointError where one has no place, or fits none."""
    changes: dict[str, Change] = {}
    files = _Files(tensors, _by_module(tensors) if adapter.wrapped else {}, model_type in _TRANSPOSED)
    for wrapped in adapter.wrapped:
        for name, change in _placed(adapter, wrapped, files):
            if name in changes:
                raise CheckpointError(f"{adapter.folder}: two of the adapter's tensors belong to {name}")
            changes[name] = change
    return changes


def file_names(name: str) -> tuple[str, ...]:
    """How a file may call a tensor of the model: as it is, without the model's prefix (GPT-2: `h.0...` for
    `transformer.h.0...`), or as Mixtral's checkpoints call the layers of experts."""
    return name, name.partition(".")[2], name.replace(".mlp.", ".block_sparse_moe.")


@dataclass(frozen=True)
class _Files:
    tensors: Mapping[str, Source]
    modules: Mapping[str, Mapping[tuple[int, str], str]]
    """Name of a list of experts -> (expert, part) -> name of the tensor."""
    transposed: bool


def _by_module(tensors: Mapping[str, Source]) -> dict[str, dict[tuple[int, str], str]]:
    modules: dict[str, dict[tuple[int, str], str]] = {}
    for name in tensors:
        if match := _OF_EXPERT.fullmatch(name):
            modules.setdefault(match[1], {})[int(match[2]), match[3]] = name
    return modules


def _placed(adapter: Adapter, wrapped: Wrapped, files: _Files) -> Iterator[tuple[str, Change]]:
    scaling = adapter.scaling
    if not wrapped.nested:
        for name in (*wrapped.parameters, f"{wrapped.module}.weight"):
            place, rank = _matrix(name, files.tensors), scaling.rank(name)
            if place is not None and wrapped.down.shape[0] == wrapped.up.shape[1] == rank:
                yield place, LowRank(wrapped.down, wrapped.up, scaling.scale(name), False, False)
                return
    for name in wrapped.parameters:
        stack, rank = _stack(name, files), scaling.rank(name)
        if stack is not None and stack.fits(wrapped, rank):
            product = _Product(wrapped, rank, scaling.scale(name), stack.experts)
            for place, (expert, first) in stack.places.items():
                whole = expert < 0
                yield place, ExpertStack(product, stack.transposed) if whole else ExpertPart(product, expert, first)
            return
    matrices = f"{list(wrapped.up.shape)} x {list(wrapped.down.shape)} of {wrapped.module}"
    raise CheckpointError(
        f"{adapter.folder}: the base model's files have nothing for the adapter's matrices {matrices}",
        "is this the base that the adapter was trained on?",
    )


def _matrix(name: str, tensors: Mapping[str, Source]) -> str | None:
    """The file's name of a parameter that is one matrix."""
    return next((place for place in file_names(name) if place in tensors and len(tensors[place].shape) == 2), None)


def _stack(name: str, files: _Files) -> _Stack | None:
    for place in file_names(name):
        if place in files.tensors and len(files.tensors[place].shape) == 3:
            return _in_one(place, files.tensors[place].shape, transposed=files.transposed)
    module, _, parameter = name.rpartition(".")
    for parts in _APART.get(parameter, ()):
        for prefix in file_names(module):
            if stack := _apart(files.modules.get(prefix, {}), parts, files.tensors):
                return stack
    return None


def _in_one(place: str, shape: tuple[int, ...], *, transposed: bool) -> _Stack:
    experts, one, other = shape
    out_features, in_features = (other, one) if transposed else (one, other)
    return _Stack(experts, out_features, in_features, transposed, {place: (-1, 0)})


def _apart(
    names: Mapping[tuple[int, str], str], parts: tuple[str, ...], tensors: Mapping[str, Source]
) -> _Stack | None:
    """None where a part of an expert is not there, or no expert is."""
    num_experts = 1 + max((expert for expert, _ in names), default=-1)
    if not num_experts or any((expert, part) not in names for expert in range(num_experts) for part in parts):
        return None
    places: dict[str, tuple[int, int]] = {}
    first = 0
    for part in parts:
        places |= {names[expert, part]: (expert, first) for expert in range(num_experts)}
        first += tensors[names[0, part]].shape[0]
    return _Stack(num_experts, first, tensors[names[0, parts[0]]].shape[1], False, places)
