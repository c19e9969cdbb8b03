"""What the merged model consists of: for every tensor, where its values come from. Nothing is computed here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from axo.errors import CheckpointError
from axo.export.base_model import SINGLE_FILE, BaseModel
from axo.export.changes import Change, Rows, Scratch
from axo.export.lora import Adapter
from axo.export.places import Edits, find_names, place
from axo.export.source import Grown, Source
from axo.export.tensor_file import FLOATS, Stored

_EMBEDDING = re.compile(r"(.*\.)?(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight")
_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out)\.weight")
_DEFAULT_HEAD = "lm_head.weight"
_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Output:
    """One tensor of the merged model: the values of `source`, changed, in `dtype`."""

    name: str
    dtype: str
    source: Source
    change: Change | None = None
    replaced: bool = False
    """The values come from the adapter's file."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def num_rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def copied(self) -> Stored | None:
        """The tensor whose bytes are the result."""
        as_is = self.change is None and self.dtype == self.source.dtype
        return self.source if as_is and isinstance(self.source, Stored) else None

    @property
    def num_bytes(self) -> int:
        if self.copied:
            return self.copied.entry.end - self.copied.entry.start
        return math.prod(self.shape) * FLOATS[self.dtype].itemsize

    def values(self, start: int, stop: int, *, scratch: Scratch) -> torch.Tensor:
        """Rows [start, stop) as (stop - start, rest), computed in float32 (float64 weights: in float64).

        The result may lie in `scratch`: it is good until the next call with the same one.
        """
        rows, dtype = self.source.rows(start, stop), FLOATS[self.dtype]
        if self.change is not None:
            rows = self.change.apply(rows, start, source=self.source, scratch=scratch)
        if rows.dtype == dtype and rows.is_contiguous():
            return rows
        return scratch.take("rounded", rows.shape, dtype).copy_(rows)


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


def assemble(base: BaseModel, adapter: Adapter, *, dtype: str | None, rows_multiple: int = 1) -> Assembly:
    """Find every adapter tensor's place in the base; `dtype` (safetensors' name) converts all floats, None keeps.
    Embeddings that grow for rows of new tokens grow to a multiple of `rows_multiple`.

    Raises:
        CheckpointError: an adapter tensor without a place, or of a shape that does not fit there.
    """
    tensors = base.tensors
    tie = _find_tie(tensors, adapter)
    names = find_names(base, adapter, head=tie and tie.head, embedding=tie and tie.embedding)
    edits = place(base, adapter, names)
    tie = tie and replace(tie, head=names.files[tie.head])
    pair = (tie.embedding, tie.head) if tie else _stored_pair(tensors) if _says_tied(base) else None
    if pair:
        edits = edits.with_rows_of_both(*pair)
    make = _Maker(edits, dtype, rows_multiple)
    outputs = {name: make.output(name, source, source) for name, source in tensors.items()}
    untied = False
    if tie and (edits.touch(tie.embedding) or edits.touch(tie.head)):
        shared = tensors[tie.embedding]
        beneath = edits.originals.get(tie.embedding) or edits.originals.get(tie.head) or shared
        embedding, head = (make.output(name, shared, beneath) for name in (tie.embedding, tie.head))
        untied = not _same_values(embedding, head)
        outputs |= {embedding.name: embedding} | ({head.name: head} if untied else {})
    elif not tie and pair and any(edits.touch(name) for name in pair):
        untied = not _same_values(outputs[pair[0]], outputs[pair[1]])
    vocab_size = _new_vocab_size(base, tensors, outputs)
    return Assembly(_files(base, outputs), vocab_size, untied)


@dataclass(frozen=True)
class _Tie:
    """An output head that is not stored because it is the input embedding."""

    embedding: str
    head: str


def _find_tie(tensors: Mapping[str, Source], adapter: Adapter) -> _Tie | None:
    embeddings = [name for name in tensors if _EMBEDDING.fullmatch(name)]
    if len(embeddings) != 1 or any(_HEAD.fullmatch(name) for name in tensors):
        return None
    named = (name for name in (*adapter.changes, *adapter.trained, *adapter.originals) if _HEAD.fullmatch(name))
    return _Tie(embeddings[0], next(named, _DEFAULT_HEAD))


def _stored_pair(tensors: Mapping[str, Source]) -> tuple[str, str] | None:
    embeddings = [name for name in tensors if _EMBEDDING.fullmatch(name)]
    heads = [name for name in tensors if _HEAD.fullmatch(name)]
    return (embeddings[0], heads[0]) if len(embeddings) == len(heads) == 1 else None


def _says_tied(base: BaseModel) -> bool:
    return any(config.get("tie_word_embeddings") is True for config in (base.config, base.text_config))


@dataclass(frozen=True)
class _Maker:
    edits: Edits
    dtype: str | None
    rows_multiple: int

    def output(self, name: str, stored: Source, beneath: Source) -> Output:
        """`stored` gives the number format; `beneath` the values where the adapter has none of its own."""
        found = self.edits.trained.get(name) or self.edits.originals.get(name)
        source, change = found or beneath, self.edits.changes.get(name)
        if stored.dtype not in FLOATS:
            if found or change:
                raise CheckpointError(f"{name} is stored as {stored.dtype}: nothing can be added to it")
            return Output(name, stored.dtype, stored)
        if isinstance(change, Rows):
            source = self._grown(source, change)
        misfit = change.misfit(source.shape) if change else None
        if misfit:
            raise CheckpointError(f"{name}: {misfit}", "is this the base that the adapter was trained on?")
        return Output(name, self.dtype or stored.dtype, source, change, replaced=found is not None)

    def _grown(self, source: Source, rows: Rows) -> Source:
        needed = max(rows.indices) + 1
        if needed <= source.shape[0]:
            return source
        return Grown(source, math.ceil(needed / self.rows_multiple) * self.rows_multiple)


def _same_values(one: Output, other: Output) -> bool:
    if one.shape != other.shape:
        return False
    if one.source == other.source and one.change is other.change:
        return True
    scratches = Scratch(), Scratch()
    for start in range(0, one.shape[0], _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, one.shape[0])
        values = [output.values(start, stop, scratch=own) for output, own in zip((one, other), scratches, strict=True)]
        if not torch.equal(*values):
            return False
    return True


def _new_vocab_size(base: BaseModel, tensors: Mapping[str, Source], outputs: Mapping[str, Output]) -> int | None:
    """Rows of the embeddings where tokens were added (or a padded vocabulary was cut); all must agree."""
    old = base.text_config.get("vocab_size")
    sizes: set[int] = set()
    for name, output in outputs.items():
        before = tensors[name].shape if name in tensors else output.shape
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
            tuple(outputs[name] for name in names),
        )
        for shard, names in zip(base.shards, base.layout, strict=True)
    ]
    placed = {output.name for file in files for output in file.outputs}
    added = tuple(output for name, output in outputs.items() if name not in placed)
    files[-1] = replace(files[-1], outputs=files[-1].outputs + added)
    return tuple(files)
