"""Quantising and dequantising by bitsandbytes, which is imported when the first weight is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from axo.errors import HardwareError
from axo.export.source import Source, Whole
from axo.export.tensor_file import FLOATS


def from_bitsandbytes(codes: torch.Tensor, state: Any) -> torch.Tensor:
    """The weight whose packed codes of 4 bits these are."""
    return _package().functional.dequantize_4bit(codes.view(-1, 1), quant_state=state)


def state_of(parts: Mapping[str, torch.Tensor]) -> Any:
    """bitsandbytes' QuantState from the tensors that are stored beside a weight."""
    return _package().functional.QuantState.from_dict(dict(parts), device=torch.device("cpu"))


@dataclass(frozen=True)
class Rounding:
    """How a run quantised the weights of its base while it loaded them."""

    names: frozenset[str]
    """Of the quantised weights, in the base's files."""
    settings: Mapping[str, Any]
    """Arguments of transformers' BitsAndBytesConfig."""
    loaded_as: torch.dtype
    """The number format that weights had before they were quantised."""


class Rounded(Whole):
    """A weight as it is after it was quantised and dequantised, as a run on the quantised model computed with it."""

    def __init__(self, source: Source, rounding: Rounding) -> None:
        super().__init__(source.name, source.shape, source.dtype)
        self._source, self._rounding = source, rounding

    def compute(self) -> torch.Tensor:
        weight = self._source.rows(0, self.shape[0]).to(self._rounding.loaded_as, copy=True)
        settings, nn, functional = self._rounding.settings, _package().nn, _package().functional
        if settings.get("load_in_8bit"):
            stored = nn.Int8Params(weight, requires_grad=False).to("cpu")
            return stored.CB.float() * (stored.SCB.float()[:, None] / 127.0)
        stored = nn.Params4bit(
            weight,
            requires_grad=False,
            quant_type=settings.get("bnb_4bit_quant_type", "fp4"),
            compress_statistics=bool(settings.get("bnb_4bit_use_double_quant", False)),
            quant_storage=torch.uint8,
        ).to("cpu")
        return functional.dequantize_4bit(stored.data, stored.quant_state)


def rounded(tensors: Mapping[str, Source], rounding: Rounding) -> dict[str, Source]:
    """`tensors` with the weights that a run quantised as they were after it."""
    return {
        name: Rounded(source, rounding) if name in rounding.names and source.dtype in FLOATS else source
        for name, source in tensors.items()
    }


def _package() -> Any:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what it says of kernels while it is imported
    try:
        import bitsandbytes
    except ImportError as error:
        raise HardwareError(
            "the weights are in the bits of bitsandbytes, which is not installed", "`pip install 'axo[bitsandbytes]'`"
        ) from error
    finally:
        logging.disable(before)
    return bitsandbytes
