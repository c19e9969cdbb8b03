"""What the merged model consists of: for every tensor, where its values come from. Nothing is computed here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from axo.errors import CheckpointError
from axo.export.base_model import SINGLE_FILE, BaseModel
from axo.export.lora import Adapter, LowRank
from axo.export.tensor_file import FLOATS, Stored

_EMBEDDING = re.compile(r"(.*\.)?(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight")
_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out)\.weight")
_DEFAULT_HEAD = "lm_head.weight"
_ROWS_AT_A_TIME = 1024


class Scratch:
    """Memory that one thread uses again for each block: fresh pages cost more than all that is computed in them."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor that shares its memory with the last one of that name."""
        size = shape.numel() * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=torch.uint8)
        return buffer[:size].view(dtype).view(shape)


@dataclass(frozen=True)
class Output:
    """One tensor of the merged model: the stored values, in `dtype`, plus the delta."""

    name: str
    dtype: str
    source: Stored
    delta: LowRank | None = None
    replaced: bool = False
    """The values come from the adapter's file."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.entry.shape

    @property
    def copied(self) -> bool:
        """The source's bytes are the result."""
        return self.delta is None and self.dtype == self.source.entry.dtype

    @property
    def num_bytes(self) -> int:
        if self.dtype == self.source.entry.dtype:
            return self.source.entry.end - self.source.entry.start
        return math.prod(self.shape) * FLOATS[self.dtype].itemsize

    def values(self, start: int, stop: int, *, scratch: Scratch) -> torch.Tensor:
        """Rows [start, stop) as (stop - start, rest), added in float32 (float64 weights: in float64).

        The result may lie in `scratch`: it is good until the next call with the same one.
        """
        rows, dtype = self.source.rows(start, stop), FLOATS[self.dtype]
        if self.delta is not None:
            factors = self.delta.oriented(self.shape)
            assert factors is not None
            left, right = (factor.to(torch.float32) for factor in (factors[0][start:stop], factors[1]))
            # In this order and not as one addmm: bit for bit what peft's merge gives.
            added = torch.mm(left, right, out=scratch.take("added", rows.shape, torch.float32)).mul_(self.delta.scale)
            rows = added.add_(rows) if rows.dtype != torch.float64 else rows + added
        return rows if rows.dtype == dtype else scratch.take("rounded", rows.shape, dtype).copy_(rows)


@dataclass(frozen=True)
class OutputFile:
    name: str
    metadata: Mapping[str, str]
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class Assembly:
    files: tuple[OutputFile, ...]
    vocab_size: int | None
    """The new size of the vocabulary; None: as the base's."""
    untied: bool
    """Input embedding and output head are no longer one tensor."""

    @property
    def outputs(self) -> list[Output]:
        return [output for file in self.files for output in file.outputs]


def assemble(base: BaseModel, adapter: Adapter, *, dtype: str | None) -> Assembly:
    """Find every adapter tensor's place in the base; `dtype` (safetensors' name) converts all floats, None keeps.

    Raises:
        CheckpointError: an adapter tensor without a place, or of a shape that does not fit there.
    """
    tensors = base.tensors
    tie = _find_tie(tensors, adapter)
    edits = _place(tensors, adapter, head=tie.head if tie else None)
    outputs = {name: _output(name, edits, stored, stored, dtype) for name, stored in tensors.items()}
    untied = False
    if tie and (edits.touch(tie.embedding) or edits.touch(tie.head)):
        shared = tensors[tie.embedding]
        beneath = edits.originals.get(tie.embedding) or edits.originals.get(tie.head) or shared
        embedding, head = (_output(name, edits, shared, beneath, dtype) for name in (tie.embedding, tie.head))
        untied = not _same_values(embedding, head)
        outputs |= {embedding.name: embedding} | ({head.name: head} if untied else {})
    elif _says_tied(base) and (pair := _stored_pair(tensors)) and any(edits.touch(name) for name in pair):
        untied = not _same_values(outputs[pair[0]], outputs[pair[1]])
    vocab_size = _new_vocab_size(base, tensors, outputs)
    return Assembly(_files(base, outputs), vocab_size, untied)


@dataclass(frozen=True)
class _Tie:
    """An output head that is not stored because it is the input embedding."""

    embedding: str
    head: str


def _find_tie(tensors: Mapping[str, Stored], adapter: Adapter) -> _Tie | None:
    embeddings = [name for name in tensors if _EMBEDDING.fullmatch(name)]
    if len(embeddings) != 1 or any(_HEAD.fullmatch(name) for name in tensors):
        return None
    named = (name for name in (*adapter.deltas, *adapter.trained, *adapter.originals) if _HEAD.fullmatch(name))
    return _Tie(embeddings[0], next(named, _DEFAULT_HEAD))


def _stored_pair(tensors: Mapping[str, Stored]) -> tuple[str, str] | None:
    embeddings = [name for name in tensors if _EMBEDDING.fullmatch(name)]
    heads = [name for name in tensors if _HEAD.fullmatch(name)]
    return (embeddings[0], heads[0]) if len(embeddings) == len(heads) == 1 else None


def _says_tied(base: BaseModel) -> bool:
    return any(config.get("tie_word_embeddings") is True for config in (base.config, base.text_config))


@dataclass(frozen=True)
class _Edits:
    """The adapter's content by the names of the base's file."""

    deltas: Mapping[str, LowRank]
    trained: Mapping[str, Stored]
    originals: Mapping[str, Stored]

    def touch(self, name: str) -> bool:
        return name in self.deltas or name in self.trained


def _place(tensors: Mapping[str, Stored], adapter: Adapter, *, head: str | None) -> _Edits:
    known = {*tensors, *([head] if head else [])}
    names = dict.fromkeys((*adapter.deltas, *adapter.trained, *adapter.originals))
    places = {name: _place_of(name, known) for name in names}
    left_over = [name for name, place in places.items() if place is None]
    if left_over:
        shown = ", ".join(left_over[:5]) + (f" and {len(left_over) - 5} more" if len(left_over) > 5 else "")
        raise CheckpointError(
            f"{adapter.folder}: the base model's files have no tensor for {len(left_over)} of the adapter's: {shown}",
            "is this the base that it was trained on? Weights that transformers renames or fuses while loading "
            "(experts of some mixture models) must be merged with peft",
        )
    if len(set(places.values())) < len(places):
        raise CheckpointError(f"{adapter.folder}: two of the adapter's tensors belong to the same base tensor")

    return _Edits(
        {places[name] or name: delta for name, delta in adapter.deltas.items()},
        {places[name] or name: stored for name, stored in adapter.trained.items()},
        {places[name] or name: stored for name, stored in adapter.originals.items()},
    )


def _place_of(name: str, known: set[str]) -> str | None:
    """The tensor's name in the base's file, which may lack the model's prefix (GPT-2: `h.0...` for
    `transformer.h.0...`)."""
    for candidate in (name, name.partition(".")[2]):
        if candidate in known:
            return candidate
    return None


def _output(name: str, edits: _Edits, stored: Stored, beneath: Stored, dtype: str | None) -> Output:
    """`stored` gives the number format; `beneath` the values where the adapter has none of its own."""
    found = edits.trained.get(name) or edits.originals.get(name)
    source, delta = found or beneath, edits.deltas.get(name)
    if stored.entry.dtype not in FLOATS:
        if found or delta:
            raise CheckpointError(f"{stored.file.path}: {name} is stored as {stored.entry.dtype}: nothing can be added")
        return Output(name, stored.entry.dtype, stored)
    if delta and not delta.oriented(source.entry.shape):
        raise CheckpointError(
            f"{name}: the adapter's matrices {list(delta.up.entry.shape)} x {list(delta.down.entry.shape)} do not fit "
            f"the base weight {list(source.entry.shape)}",
            "is this the base that the adapter was trained on?",
        )
    return Output(name, dtype or stored.entry.dtype, source, delta, replaced=source.file is not stored.file)


def _same_values(one: Output, other: Output) -> bool:
    if one.shape != other.shape:
        return False
    if one.source == other.source and one.delta is other.delta:
        return True
    scratches = Scratch(), Scratch()
    for start in range(0, one.shape[0], _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, one.shape[0])
        values = [output.values(start, stop, scratch=own) for output, own in zip((one, other), scratches, strict=True)]
        if not torch.equal(*values):
            return False
    return True


def _new_vocab_size(base: BaseModel, tensors: Mapping[str, Stored], outputs: Mapping[str, Output]) -> int | None:
    """Rows of the embeddings where tokens were added (or a padded vocabulary was cut); all must agree."""
    old = base.text_config.get("vocab_size")
    sizes: set[int] = set()
    for name, output in outputs.items():
        before = tensors[name].entry.shape if name in tensors else output.shape
        if output.shape != before:
            if output.shape[1:] != before[1:] or before[0] != old:
                raise CheckpointError(
                    f"{name}: {list(output.shape)} in the adapter, {list(before)} in the base",
                    "is this the base that the adapter was trained on?",
                )
            sizes.add(output.shape[0])
    if not sizes:
        return None
    for name, output in outputs.items():
        if _EMBEDDING.fullmatch(name) or _HEAD.fullmatch(name):
            sizes.add(output.shape[0])
    if len(sizes) > 1:
        raise CheckpointError(
            f"the merged input embedding and output head would have {' and '.join(map(str, sorted(sizes)))} rows",
            "tokens were added, but only one of the two was saved: train with both in lora_modules_to_save",
        )
    return sizes.pop()


def _files(base: BaseModel, outputs: Mapping[str, Output]) -> tuple[OutputFile, ...]:
    """The base's files with its tensors in its order; a head that is new stands after all others."""
    files = [
        OutputFile(
            SINGLE_FILE if base.index is None else shard.path.name,
            shard.metadata,
            tuple(outputs[name] for name in shard.entries),
        )
        for shard in base.shards
    ]
    placed = {output.name for file in files for output in file.outputs}
    added = tuple(output for name, output in outputs.items() if name not in placed)
    files[-1] = replace(files[-1], outputs=files[-1].outputs + added)
    return tuple(files)
