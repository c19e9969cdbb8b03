"""The weights of a checkpoint in few bits, dequantised as they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from axo.errors import CheckpointError
from axo.export.bitsandbytes import from_bitsandbytes, state_of
from axo.export.source import Source, Whole
from axo.export.tensor_file import Stored
from axo.plan.stored_quantization import StoredQuantization

_GPTQ_BITS = (2, 4, 8)
_WORD_BITS = 32
_INT8_STEPS = 127.0


_Found = tuple[Source, tuple[str, ...]]
"""A weight, and the names of the tensors of the file that it comes from."""


def dequantised_sources(
    stored: Mapping[str, Stored], quantised: StoredQuantization, *, dtype: str, folder: Path
) -> dict[str, Source]:
    """The tensors of the model by the name of the file's at whose place they stand: weights in few bits as `dtype`.

    Raises CheckpointError for a method that is not known, and where a part of a weight is missing or does not fit."""
    of = {"gptq": _gptq, "bnb_4bit": _four_bits, "bnb_8bit": _eight_bits}.get(quantised.kind or "")
    if of is None:
        raise CheckpointError(
            f"{folder}: the base model's weights are quantised ({quantised.method})",
            "merge into the unquantised model that it was made from: name that one as the base",
        )
    try:
        found = [*of(stored, quantised.settings, dtype)]
    except (KeyError, ValueError, RuntimeError, StopIteration, AssertionError) as error:
        message = f"{folder}: the weights are not as {quantised.method} stores them: {error!r}"
        raise CheckpointError(message, "copy or download the files again") from error
    if not found:
        raise CheckpointError(f"{folder}: config.json names {quantised.method}, but no weight is quantised by it")
    weights = {used[0]: source for source, used in found}
    parts = {name for _, used in found for name in used}
    return {name: weights.get(name, tensor) for name, tensor in stored.items() if name in weights or name not in parts}


@dataclass(frozen=True)
class Gptq:
    """scale * (q - zero) of each group of inputs (GPTQ: Frantar et al. 2022, arXiv 2210.17323), as AutoGPTQ packs it:
    `qweight` (in / n, out) and `qzeros` (groups, out / n) hold n numbers in each word, the first in its lowest bits."""

    name: str
    bits: int
    zero_offset: int
    """Added to the stored zeros: the first format stores them less one."""
    dtype: str
    qweight: Stored
    qzeros: Stored
    scales: Stored
    groups: torch.Tensor
    """(in,) group of each input."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.scales.shape[1], len(self.groups)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """(outputs, inputs) float32."""
        codes = _unpack(self.qweight.codes()[:, start:stop], self.bits, dim=0)[: len(self.groups)]
        zeros = _unpack(self.qzeros.codes(), self.bits, dim=1)[:, start:stop]
        zeros = (zeros + self.zero_offset) & (2**self.bits - 1)
        scales = self.scales.matrix()[:, start:stop].float()
        return (scales[self.groups] * (codes - zeros[self.groups])).T.contiguous()


def _unpack(words: torch.Tensor, bits: int, *, dim: int) -> torch.Tensor:
    shifts = torch.arange(0, _WORD_BITS, bits, dtype=torch.int32)
    parts = (words.unsqueeze(dim + 1) >> shifts.view(-1, *[1] * (words.dim() - 1 - dim))) & (2**bits - 1)
    return parts.flatten(dim, dim + 1)


def _gptq(stored: Mapping[str, Stored], settings: Mapping[str, Any], dtype: str) -> Iterator[_Found]:
    bits = settings["bits"]
    if bits not in _GPTQ_BITS:
        raise ValueError(f"{bits} bits, and only {_GPTQ_BITS} are read")
    offset = 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    for name in stored:
        module, _, part = name.rpartition(".")
        if part != "qweight":
            continue
        used = {key: f"{module}.{key}" for key in ("qweight", "qzeros", "scales", "g_idx")}
        there = {key: stored[full] for key, full in used.items() if full in stored or key != "g_idx"}
        num_inputs = there["qweight"].shape[0] * (_WORD_BITS // bits)
        size = settings.get("group_size", -1)
        per_group = size if size > 0 else num_inputs
        groups = there["g_idx"].codes() if "g_idx" in there else torch.arange(num_inputs) // per_group
        packed = (there[key] for key in ("qweight", "qzeros", "scales"))
        weight = Gptq(f"{module}.weight", bits, offset, dtype, *packed, groups=groups.long())
        yield weight, (name, *(used[key] for key in there if key != "qweight"))


@dataclass(frozen=True)
class Int8:
    """q * (largest absolute value of the row) / 127 (LLM.int8: Dettmers et al. 2022, arXiv 2208.07339)."""

    name: str
    dtype: str
    weight: Stored
    largest: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    def rows(self, start: int, stop: int) -> torch.Tensor:
        codes = self.weight.data(start, stop).view(torch.int8).view(stop - start, -1)
        return codes.float() * (self.largest.matrix()[start:stop].float() / _INT8_STEPS)


def _eight_bits(stored: Mapping[str, Stored], settings: Mapping[str, Any], dtype: str) -> Iterator[_Found]:
    del settings
    for name, tensor in stored.items():
        module = name.removesuffix(".weight")
        largest = stored.get(f"{module}.SCB")
        if tensor.dtype != "I8" or largest is None:
            continue
        order = stored.get(f"{module}.weight_format")
        if order is not None and int(order.codes().item()) != 0:
            raise ValueError(f"{name} is not stored by rows")
        yield (
            Int8(name, dtype, tensor, largest),
            (name, largest.name, *(() if order is None else (order.name,))),
        )


class _Bits4(Whole):
    """One weight in 4 bits of bitsandbytes, whose scales may be quantised over the whole tensor."""

    def __init__(self, tensor: Stored, state: Mapping[str, Stored], dtype: str) -> None:
        super().__init__(tensor.name, _shape(state), dtype)
        self._tensor, self._state = tensor, state

    def compute(self) -> torch.Tensor:
        state = {name: part.codes() for name, part in self._state.items()}
        return from_bitsandbytes(self._tensor.codes(torch.uint8), state_of(state))


def _shape(state: Mapping[str, Stored]) -> tuple[int, ...]:
    packed = next(part for name, part in state.items() if "quant_state" in name)
    shape = json.loads(bytes(packed.codes().tolist()))["shape"]
    assert len(shape) == 2, shape
    return tuple(shape)


def _four_bits(stored: Mapping[str, Stored], settings: Mapping[str, Any], dtype: str) -> Iterator[_Found]:
    del settings
    states: dict[str, list[str]] = {}
    for name in stored:
        weight, mark, _ = name.partition(".weight.")
        if mark:
            states.setdefault(f"{weight}.weight", []).append(name)
    for name, of_state in states.items():
        state = {part.removeprefix(f"{name}."): stored[part] for part in of_state}
        yield _Bits4(stored[name], state, dtype), (name, *of_state)
