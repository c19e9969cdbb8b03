"""What an adapter does to one tensor of the base: it adds a low-rank product, scales its vectors, or replaces rows.

All are computed in float32 (float64 beside weights in float64), block by block."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from axo.export.source import Source
from axo.export.tensor_file import Stored

_ROWS_AT_A_TIME = 1024


class Scratch:
    """Memory that one thread uses again for each block: fresh pages cost more than all that is computed in them."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor that shares its memory with the last one of that name."""
        size = torch.Size(shape).numel() * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=torch.uint8)
        return buffer[:size].view(dtype).view(*shape)


class Change(Protocol):
    """One adapter's change of one tensor."""

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """Why it cannot be made to a tensor of `shape`; None where it can."""
        ...

    def apply(self, rows: torch.Tensor, start: int, *, source: Source, scratch: Scratch) -> torch.Tensor:
        """`rows` of `source` from row `start` on, changed. The result may lie in `scratch`."""
        ...


@dataclass(frozen=True)
class LowRank:
    """W + scale * left @ right, in the layout of the base weight (Hu et al. 2021, arXiv 2106.09685, section 4.1)."""

    down: Stored
    """lora_A: (r, in), of an embedding (r, rows)."""
    up: Stored
    """lora_B: (out, r), of an embedding (dim, r)."""
    scale: float
    embedding: bool
    fan_in_fan_out: bool

    def oriented(self, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Views (left (rows, r), right (r, columns)) for a weight of `shape`; None if they do not fit it.

        A linear layer's delta is B @ A; that of an embedding, or of a layer that keeps its weight as (in, out),
        is its transpose A.T @ B.T. The recorded `fan_in_fan_out` only decides for square weights: peft sets it for
        each layer by its class, whatever the adapter's file says.
        """
        transposed = self.transposed(shape)
        down, up = self.down.matrix(), self.up.matrix()
        return None if transposed is None else (down.T, up.T) if transposed else (up, down)

    def transposed(self, shape: tuple[int, ...]) -> bool | None:
        """Whether a weight of `shape` is stored as (in, out) or is an embedding; None if the delta does not fit it."""
        plain = (self.up.shape[0], self.down.shape[1])
        order = (True,) if self.embedding else (True, False) if self.fan_in_fan_out else (False, True)
        return next((transposed for transposed in order if (plain[::-1] if transposed else plain) == shape), None)

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        return None if self.transposed(shape) is not None else _no_fit(self.up, self.down, shape)

    def apply(self, rows: torch.Tensor, start: int, *, source: Source, scratch: Scratch) -> torch.Tensor:
        factors = self.oriented(source.shape)
        assert factors is not None
        return add_product(rows, factors[0][start : start + len(rows)], factors[1], scale=self.scale, scratch=scratch)


class Dora:
    """m * V / |V| with V = W + scale * B A, norms over what one output is computed from (DoRA: Liu et al. 2024, arXiv
    2402.09353, equation 5)."""

    def __init__(self, delta: LowRank, magnitude: Stored) -> None:
        self.delta, self.magnitude = delta, magnitude
        self._lock = threading.Lock()
        self._column_norms: torch.Tensor | None = None

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        transposed, length = self.delta.transposed(shape), self.magnitude.matrix().numel()
        if transposed is None:
            return self.delta.misfit(shape)
        outputs = shape[1] if transposed else shape[0]
        return None if length == outputs else f"{length} magnitudes in the adapter, {outputs} outputs in the base"

    def apply(self, rows: torch.Tensor, start: int, *, source: Source, scratch: Scratch) -> torch.Tensor:
        changed = self.delta.apply(rows, start, source=source, scratch=scratch)
        magnitude = self.magnitude.matrix().view(-1).to(changed.dtype)
        if self.delta.transposed(source.shape):
            return changed.mul_(magnitude / self._norms(source).to(changed.dtype))
        part = magnitude[start : start + len(rows)] / torch.linalg.vector_norm(changed, dim=1)
        return changed.mul_(part[:, None])

    def _norms(self, source: Source) -> torch.Tensor:
        """Norms of the columns, for which all rows are gone through once."""
        with self._lock:
            if self._column_norms is None:
                squares, scratch = torch.zeros(source.shape[1], dtype=torch.float64), Scratch()
                for start in range(0, source.shape[0], _ROWS_AT_A_TIME):
                    rows = source.rows(start, min(start + _ROWS_AT_A_TIME, source.shape[0]))
                    squares += self.delta.apply(rows, start, source=source, scratch=scratch).double().square().sum(0)
                self._column_norms = squares.sqrt()
            return self._column_norms


@dataclass(frozen=True)
class Rows:
    """Rows that were trained one by one (peft: trainable_token_indices)."""

    indices: tuple[int, ...]
    values: Stored
    """(rows, columns), in the order of `indices`."""

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        wanted = (len(self.indices), *shape[1:])
        if self.values.shape != wanted:
            return f"rows {list(self.values.shape)} in the adapter, and {list(wanted)} are needed for the base weight"
        return None

    def apply(self, rows: torch.Tensor, start: int, *, source: Source, scratch: Scratch) -> torch.Tensor:
        del source
        here = [(at, index - start) for at, index in enumerate(self.indices) if start <= index < start + len(rows)]
        if not here:
            return rows
        dtype = torch.promote_types(rows.dtype, torch.float32)
        changed = scratch.take("rows", rows.shape, dtype).copy_(rows)
        taken, places = (torch.tensor(numbers) for numbers in zip(*here, strict=True))
        changed[places] = self.values.matrix()[taken].to(dtype)
        return changed


def add_product(
    rows: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, scale: float, scratch: Scratch
) -> torch.Tensor:
    """rows + scale * left @ right; `rows` stay as they are."""
    left, right = left.to(torch.float32), right.to(torch.float32)
    # In this order and not as one addmm: bit for bit what peft's merge gives.
    added = torch.mm(left, right, out=scratch.take("added", rows.shape, torch.float32)).mul_(scale)
    return added.add_(rows) if rows.dtype != torch.float64 else rows + added


def _no_fit(up: Stored, down: Stored, shape: tuple[int, ...]) -> str:
    return f"the adapter's matrices {list(up.shape)} x {list(down.shape)} do not fit the base weight {list(shape)}"
