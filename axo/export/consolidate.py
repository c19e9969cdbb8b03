"""Makes a plain model of one that lies in shards: transformers' files, written one after the other in little memory."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.core_model_loading import revert_weight_conversion

from axo.engines.shards import FOLDER, FROZEN_KIND, INDEX, MODEL_PREFIX, WEIGHTS_KIND, Shards
from axo.errors import CheckpointError
from axo.export.companions import copy_companions
from axo.export.memory import AnonymousPeak
from axo.export.output_folder import MARKER, whole_folder

MAX_FILE_BYTES = 4 << 30
"""Of a file of the model: about as much is held in memory at a time."""
_NAME, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LAYER = re.compile(r".*?\.\d+\.")


@dataclass(frozen=True)
class ConsolidateReport:
    source: Path
    out: Path
    tensors: int
    bytes: int
    files: int
    workers: int
    """Ranks whose shards were read."""
    seconds: float
    peak_anonymous_bytes: int | None
    """Of the whole process; None where the system does not tell."""


def has_shards(folder: Path) -> bool:
    """Whether a checkpoint or a trained model lies in shards there."""
    return (folder / FOLDER / INDEX.format(kind=WEIGHTS_KIND)).is_file()


def consolidate(
    source: Path,
    out: Path,
    *,
    convert: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    check: Callable[[Path], None],
    max_file_bytes: int = MAX_FILE_BYTES,
) -> ConsolidateReport:
    """Write the model whose shards lie in `source` to the folder `out`, with the configuration and tokenizer beside it.

    `convert` turns the names and tensors of a layer, as the model holds them, into those of its files. `check` is
    called with the written folder before it takes its place.

    Raises CheckpointError for parts that are in no file, and for an `out` that is not ours to replace; `out` is then as
    it was."""
    begin, memory = time.perf_counter(), AnonymousPeak()
    with _every_shard(source) as shards, whole_folder(out, inputs=(source,)) as folder:
        writer = _Files(folder, max_file_bytes)
        for names in _by_layer(shards.names):
            writer.add(convert({name.removeprefix(MODEL_PREFIX): shards.read(name) for name in names}))
            memory.sample()
        writer.finish()
        copy_companions(source, folder)
        check(folder)
        marker = {"format_version": 1, "consolidated": str(source), "bytes": writer.total_bytes}
        (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    return ConsolidateReport(
        source=source,
        out=out,
        tensors=len(writer.file_of),
        bytes=writer.total_bytes,
        files=writer.num_files,
        workers=shards.workers,
        seconds=time.perf_counter() - begin,
        peak_anonymous_bytes=memory.peak_bytes,
    )


class _every_shard:  # noqa: N801 - used as a function
    """Weights that were trained, and those that were not."""

    def __init__(self, source: Path) -> None:
        folder = source / FOLDER
        kinds = [kind for kind in (WEIGHTS_KIND, FROZEN_KIND) if (folder / INDEX.format(kind=kind)).is_file()]
        if not kinds:
            raise CheckpointError(f"{source} holds no model in shards", "name a checkpoint that fsdp saved")
        self._shards = [Shards(folder, kind) for kind in kinds]
        self._of = {name: one for one in self._shards for name in one.tensors}
        self.names = [*self._of]
        self.workers = int(self._shards[0].facts["world_size"])

    def __enter__(self) -> _every_shard:
        return self

    def __exit__(self, *problem: object) -> None:
        for one in self._shards:
            one.__exit__(*problem)

    def read(self, name: str) -> torch.Tensor:
        return self._of[name].read(name)


@dataclass
class _Files:
    """Model files of a limited size."""

    folder: Path
    max_bytes: int
    total_bytes: int = 0
    file_of: dict[str, int] = field(default_factory=dict[str, int])
    num_files: int = 0
    _held: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    _held_bytes: int = 0

    def add(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if self._held and self._held_bytes + tensor.nbytes > self.max_bytes:
                self._flush()
            self._held[name] = tensor.contiguous()
            self._held_bytes += tensor.nbytes

    def finish(self) -> None:
        """Write what is left; the names of the files need their number."""
        self._flush()
        paths = [self._draft(number) for number in range(1, self.num_files + 1)]
        if len(paths) == 1:
            paths[0].rename(self.folder / _NAME)
            return
        names = [f"model-{number:05d}-of-{len(paths):05d}.safetensors" for number in range(1, len(paths) + 1)]
        for path, name in zip(paths, names, strict=True):
            path.rename(self.folder / name)
        weight_map = {name: names[number - 1] for name, number in sorted(self.file_of.items())}
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map}
        (self.folder / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _flush(self) -> None:
        self.num_files += 1
        path = self._draft(self.num_files)
        save_file(self._held, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors makes files that only their owner can read
        self.file_of |= dict.fromkeys(self._held, self.num_files)
        self.total_bytes += self._held_bytes
        self._held, self._held_bytes = {}, 0

    def _draft(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.safetensors"


def _by_layer(names: Sequence[str]) -> Iterator[list[str]]:
    """Names of one layer together, for its weights may be one in the files, or several."""
    layers: dict[str, list[str]] = {}
    for name in names:
        match = _LAYER.match(name)
        layers.setdefault(match[0] if match else name, []).append(name)
    yield from layers.values()


def convert_with(model: Any) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """transformers' own way from a model's names to those of its files."""
    return lambda tensors: revert_weight_conversion(model, tensors)
