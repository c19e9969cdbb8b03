"""Merge a LoRA adapter into its base model, streaming block by block: no model is ever loaded.

What the adapter changes (axo.export.changes) is computed in float32 and rounded once to the number format in which it
is stored. Everything that the adapter does not touch is copied byte by byte; files, their order and their index stay
as they are in the base. Only weights in 4 bits are unpacked one whole weight at a time.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from axo.errors import CheckpointError
from axo.export.assemble import Assembly, assemble
from axo.export.base_model import BaseModel, open_base
from axo.export.bitsandbytes import Rounding, rounded
from axo.export.companions import has_tokenizer, write_companions
from axo.export.lora import open_adapter
from axo.export.memory import AnonymousPeak
from axo.export.output_folder import MARKER, whole_folder
from axo.export.write import write_tensors

Dtype = Literal["float32", "bfloat16", "float16"]

_STORED_AS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True)
class MergeReport:
    out: Path
    tensors: int
    merged: int
    """Tensors that a low-rank product was added to."""
    replaced: int
    """Tensors taken from the adapter as they were trained."""
    bytes: int
    seconds: float
    peak_anonymous_bytes: int | None
    """Of the whole process, torch included; None where the system does not tell."""
    dtype: str
    """The number formats of the written floats, comma-separated where there are several."""
    notes: tuple[str, ...]
    """What differs from the base's configuration, and why."""


def merge_lora(
    *,
    base: Path,
    adapter: Path,
    out: Path,
    tokenizer_from: Path | None,
    eot_tokens: Sequence[str] = (),
    dtype: Dtype | None = None,
    rows_multiple: int = 1,
    rounding: Rounding | None = None,
    named: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Write `base` with `adapter` merged into it to the folder `out`.

    `rounding`: merge into the base's weights as they are after they were quantised, not as they are in its files.
    Embeddings that grow for new tokens grow to a multiple of `rows_multiple`. `named`: the folder that `base` is a view
    of.

    `tokenizer_from` None: the tokenizer beside the adapter if there is one, else the base's. `eot_tokens` end a text
    as the tokenizer's end-of-sequence token does. `dtype` None: every tensor keeps its number format.
    `progress(done_bytes, total_bytes)` is called from several threads, one at a time.

    Raises:
        CheckpointError: a missing or damaged file, an adapter that cannot be merged or belongs to another base, an
            `out` that is not ours to replace, or a disk that is too small; `out` is then as it was.
    """
    begin = time.perf_counter()
    opened, content, origin = open_base(base), open_adapter(adapter), named or base
    if rounding is not None:
        opened = replace(opened, tensors=rounded(opened.tensors, rounding))
    stored_as = _STORED_AS[dtype] if dtype else None
    assembly = assemble(opened, content, dtype=stored_as, rows_multiple=rows_multiple)
    total = sum(output.num_bytes for output in assembly.outputs)
    meter = _Meter(total, progress)
    tokenizer = tokenizer_from or (adapter if has_tokenizer(adapter) else base)
    with whole_folder(out, inputs=(origin, adapter)) as folder:
        _check_space(folder, total)
        write_tensors(assembly.files, folder=folder, written=meter.add)
        write_companions(opened, assembly, tokenizer=tokenizer, eot_tokens=eot_tokens, dtype=dtype, folder=folder)
        marker = {"format_version": 1, "base": str(origin), "adapter": str(adapter), "bytes": total}
        (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    return MergeReport(
        out=out,
        tensors=len(assembly.outputs),
        merged=sum(output.change is not None for output in assembly.outputs),
        replaced=sum(output.replaced and output.change is None for output in assembly.outputs),
        bytes=total,
        seconds=time.perf_counter() - begin,
        peak_anonymous_bytes=meter.memory.peak_bytes,
        dtype=",".join(sorted(_float_formats(assembly))),
        notes=_notes(assembly, opened),
    )


class _Meter:
    """Adds up the written bytes and samples the memory after each block, while the block's buffers are still there."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.memory = AnonymousPeak()
        self._done, self._total, self._progress = 0, total, progress
        self._lock = threading.Lock()

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            self.memory.sample()
            if self._progress is not None:
                self._progress(self._done, self._total)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{folder.parent}: {free / 1e9:.1f} GB are free, the merged model needs {needed / 1e9:.1f} GB",
            "free some space, or choose a folder on another disk",
        )


def _float_formats(assembly: Assembly) -> set[str]:
    names = {stored: name for name, stored in _STORED_AS.items()}
    return {names[output.dtype] for output in assembly.outputs if output.dtype in names}


def _notes(assembly: Assembly, base: BaseModel) -> tuple[str, ...]:
    notes: list[str] = []
    if base.dequantised is not None:
        notes.append(
            f"the base's weights, quantised by {base.dequantised}, were dequantised: the merged model is whole"
        )
    if assembly.vocab_size is not None:
        former = base.text_config.get("vocab_size")
        notes.append(f"vocab_size {former} -> {assembly.vocab_size}: the adapter holds the embeddings' rows")
    if assembly.untied:
        notes.append(
            "tie_word_embeddings is now false and the output head is stored: the adapter changed the input embedding "
            "and the head apart, which one shared tensor cannot hold"
        )
    return tuple(notes)
