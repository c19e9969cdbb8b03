"""Tensors that lie in parts on several ranks, as safetensors files: one file a rank, and JSON that says what is whole.

Each part stands under the tensor's name, and the header says at which offsets it lies, as torch's own checkpoints do
(torch.distributed.checkpoint.HuggingFaceStorageWriter), so that torch's readers read these files too. See
docs/decisions/0010-sharded-checkpoints.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset  # what torch's own checkpoints use

from axo.errors import CheckpointError

FOLDER = "engine"
"""Where the shards of a checkpoint or of a trained model lie in its folder."""
WEIGHTS_KIND, OPTIMIZER_KIND = "weights", "optimizer"
FROZEN_KIND = "frozen"
"""Weights that a whole model has and the state of a run has not."""
MODEL_PREFIX = "model."
"""Where the objective keeps the model."""
INDEX = "{kind}.json"
SHARD = "{kind}-{rank:05d}-of-{world_size:05d}.safetensors"
_INFO, _OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"
"""Names of torch/distributed/checkpoint/_hf_utils.py."""


@dataclass(frozen=True)
class Part:
    """Where a piece of a tensor lies in it."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    def overlap(self, other: Part) -> Part | None:
        """What both cover; None: nothing."""
        begins = tuple(map(max, self.offsets, other.offsets))
        mine, theirs = self._ends(), other._ends()
        sizes = tuple(min(ends) - begin for begin, *ends in zip(begins, mine, theirs, strict=True))
        return Part(begins, sizes) if all(size > 0 for size in sizes) else None

    def within(self, other: Part) -> tuple[slice, ...]:
        """Slices of `other` that give this part."""
        return tuple(
            slice(at - start, at - start + size)
            for at, start, size in zip(self.offsets, other.offsets, self.sizes, strict=True)
        )

    def _ends(self) -> list[int]:
        return [at + size for at, size in zip(self.offsets, self.sizes, strict=True)]


@dataclass(frozen=True)
class Entry:
    """A whole tensor of which files hold parts."""

    shape: tuple[int, ...]
    dtype: str
    dim: int | None = None
    """Dimension along which it was split; None: it was not."""


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of a tensor lies on this rank."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def part_of(tensor: torch.Tensor) -> Part:
    """Where `local(tensor)` lies in the whole tensor."""
    if not isinstance(tensor, DTensor):
        return Part((0,) * tensor.dim(), tuple(tensor.shape))
    return part_on(tensor.device_mesh, tensor.shape, tensor.placements)


def part_on(mesh: DeviceMesh, shape: torch.Size, placements: Sequence[Placement]) -> Part:
    """What of a tensor of `shape`, split so, lies on this rank."""
    sizes, offsets = compute_local_shape_and_global_offset(shape, mesh, placements)
    return Part(tuple(offsets), tuple(sizes))


def entry_of(tensor: torch.Tensor) -> Entry:
    """The whole tensor of which `tensor` may be a part."""
    split = tensor.placements if isinstance(tensor, DTensor) else ()
    assert all(isinstance(placement, Shard | Replicate) for placement in split)
    dims = [placement.dim for placement in split if isinstance(placement, Shard)]
    return Entry(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), dims[0] if dims else None)


def write_shard(
    tensors: Mapping[str, torch.Tensor], folder: Path, *, kind: str, rank: int, world_size: int, **facts: Any
) -> list[Path]:
    """Write this rank's parts, on rank 0 also the index with `facts`; returns the files. Nothing is sent.

    Of several ranks that hold the same part one writes it."""
    path = folder / SHARD.format(kind=kind, rank=rank, world_size=world_size)
    mine = {name: tensor for name, tensor in tensors.items() if _is_writer(tensor, rank) and local(tensor).numel()}
    info = {name: {_OFFSETS: part_of(tensor).offsets} for name, tensor in mine.items()}
    save_file(
        {name: local(tensor).contiguous() for name, tensor in mine.items()},
        path,
        metadata={"format": "pt", "DCP_VERSION": "1.0", _INFO: json.dumps(info)},
    )
    if rank != 0:
        return [path]
    entries = {name: asdict(entry_of(tensor)) for name, tensor in tensors.items()}
    index = folder / INDEX.format(kind=kind)
    index.write_text(json.dumps({"world_size": world_size, **facts, "tensors": entries}, indent=1))
    return [path, index]


def _is_writer(tensor: torch.Tensor, rank: int) -> bool:
    """The first of the ranks that hold the same part."""
    if not isinstance(tensor, DTensor):
        return rank == 0
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    placed = zip(tensor.placements, coordinate, strict=True)
    return all(at == 0 for placement, at in placed if isinstance(placement, Replicate))


class Shards:
    """The tensors of one kind in a folder, in parts of several ranks or whole in one file `<kind>.safetensors`.

    Files are opened when a part is asked of them, that of `first` first: on the same number of ranks no other is."""

    def __init__(self, folder: Path, kind: str, *, first: int = 0) -> None:
        self._folder, self._kind = folder, kind
        self._open = ExitStack()
        self._files: dict[Path, tuple[Any, dict[str, Part]]] = {}
        whole = folder / f"{kind}.safetensors"
        self.is_whole = whole.exists()
        if self.is_whole:
            self._paths = [whole]
            file, parts = self._file(whole)
            self.facts: dict[str, Any] = dict(file.metadata() or {})
            self.tensors = {name: Entry(part.sizes, _dtype(file, name)) for name, part in parts.items()}
            return
        self.facts = _read_index(folder / INDEX.format(kind=kind))
        self.tensors = {
            name: Entry(tuple(entry["shape"]), entry["dtype"], entry["dim"])
            for name, entry in self.facts.pop("tensors").items()
        }
        ranks, num = range(self.facts["world_size"]), self.facts["world_size"]
        order = sorted(ranks, key=lambda rank: (rank != first, rank))
        self._paths = [folder / SHARD.format(kind=kind, rank=rank, world_size=num) for rank in order]

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, name: str, part: Part | None = None) -> torch.Tensor:
        """A part of a tensor, or all of it. Raises CheckpointError where files do not hold it all."""
        entry = self.tensors[name]
        part = part or Part((0,) * len(entry.shape), entry.shape)
        result = torch.empty(part.sizes, dtype=getattr(torch, entry.dtype))
        missing = result.numel()
        for path in self._paths:
            if not missing:
                break
            file, parts = self._file(path)
            common = part.overlap(parts[name]) if name in parts else None
            if common is not None:
                result[common.within(part)] = _slice(file, name, common.within(parts[name]))
                missing -= math.prod(common.sizes)
        if missing:
            raise CheckpointError(f"{self._folder}: {missing} of {result.numel()} numbers of {name} are in no file")
        return result

    def _file(self, path: Path) -> tuple[Any, dict[str, Part]]:
        if path not in self._files:
            if not path.is_file():
                raise CheckpointError(f"{path} is missing")
            file = self._open.enter_context(safe_open(path, framework="pt"))
            self._files[path] = file, dict(_parts(file))
        return self._files[path]


def _parts(file: Any) -> Iterator[tuple[str, Part]]:
    metadata = file.metadata() or {}
    offsets = {name: info[_OFFSETS] for name, info in json.loads(metadata.get(_INFO, "{}")).items()}
    for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
        sizes = tuple(file.get_slice(name).get_shape())
        yield name, Part(tuple(offsets.get(name, (0,) * len(sizes))), sizes)


def _slice(file: Any, name: str, slices: Sequence[slice]) -> torch.Tensor:
    return file.get_slice(name)[tuple(slices)] if slices else file.get_tensor(name)


def _dtype(file: Any, name: str) -> str:
    return _DTYPES[file.get_slice(name).get_dtype()]


_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def _read_index(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "the folder holds no state of this run") from error
