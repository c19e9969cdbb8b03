"""Bytes that one tensor takes as weights in few bits, and as an optimizer's state: each constant with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from types import MappingProxyType
from typing import Any, Literal

from axo.plan.parameters_architecture import NotKnown
from axo.plan.plan import DType, QuantizationPlan

BYTES: Mapping[DType, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
SMALL = 4096
"""Optimizers in few bits keep smaller tensors whole (bitsandbytes min_8bit_size; torchao, OptimizerBase)."""
BLOCK_4BIT = 64
"""Weights with a scale of their own in bitsandbytes' 4 bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314, section
3)."""
BLOCK_SCALES = 256
"""Such scales, of one byte each, that share a float32 where they are quantised too (the same)."""


BLOCK_STATES = 256
"""Numbers of a state in 8 or 4 bits that share a float32 scale (bitsandbytes, optimizer.py; axo/optim/torchao.py)."""
GROUP_GPTQ = 128
"""Inputs that share a scale of 16 bits and a zero point in GPTQ checkpoints, as they are usually made."""
Place = Literal["embeddings", "head", "inside"]


@dataclass(frozen=True)
class _State:
    moments: int
    """Numbers that are remembered of each weight."""
    bytes: float | None = None
    """Of each such number; None: as the weight is stored."""
    scaled: bool = False
    """BLOCK_STATES of them share a scale; small tensors have whole numbers instead."""
    whole_bytes: int | None = None
    """Of each such whole number; None: as the weight is stored."""
    whole_embeddings: bool = False


_OPTIMIZERS: Mapping[str, _State] = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused"), _State(2)),
    **dict.fromkeys(("lion_pytorch", "rmsprop", "adagrad"), _State(1)),
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"), _State(2, 1, True, 4, True)),
    **dict.fromkeys(("lion_8bit", "paged_lion_8bit", "rmsprop_bnb_8bit"), _State(1, 1, True, 4, True)),
    **dict.fromkeys(("ademamix_8bit", "paged_ademamix_8bit"), _State(3, 1, True, 4, True)),
    "paged_adamw_32bit": _State(2, 4),
    **dict.fromkeys(("lion_32bit", "paged_lion_32bit", "rmsprop_bnb", "rmsprop_bnb_32bit"), _State(1, 4)),
    **dict.fromkeys(("ademamix", "paged_ademamix_32bit"), _State(3, 4)),
    **dict.fromkeys(("adamw_torch_8bit", "ao_adamw_8bit"), _State(2, 1, True)),
    **dict.fromkeys(("adamw_torch_4bit", "ao_adamw_4bit"), _State(2, 0.5, True)),
}


def state_bytes(
    optimizer: str,
    shape: tuple[int, ...],
    *,
    weight_bytes: int,
    place: Place = "inside",
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> float:
    """What `optimizer`, with optim_args `settings`, remembers of one tensor. Raises NotKnown for optimizers whose state
    is not worked out."""
    numbers = prod(shape)
    if optimizer == "sgd":
        return numbers * weight_bytes if settings.get("momentum") else 0
    if optimizer == "adafactor":
        return _adafactor(shape, momentum=settings.get("beta1") is not None)
    if optimizer == "muon":
        return numbers * weight_bytes * (1 if len(shape) == 2 and place == "inside" else 2)
    known = _OPTIMIZERS.get(optimizer)
    if known is None or (optimizer == "rmsprop" and settings):
        raise NotKnown(f"how much {optimizer} remembers is not known to axo")
    if not known.scaled:
        return numbers * known.moments * (known.bytes or weight_bytes)
    uneven = known.whole_bytes is None and numbers % BLOCK_STATES != 0  # torchao, _AdamBase._new_buffer
    if numbers < SMALL or uneven or (known.whole_embeddings and place == "embeddings"):
        return numbers * known.moments * (known.whole_bytes or weight_bytes)
    return known.moments * (numbers * (known.bytes or 0) + 4 * ceil(numbers / BLOCK_STATES))


def _adafactor(shape: tuple[int, ...], *, momentum: bool) -> float:
    """float32 means over rows and over columns of the last two dimensions (Shazeer and Stern 2018, arXiv 1804.04235,
    section 3); vectors are whole."""
    numbers = prod(shape)
    second = numbers if len(shape) < 2 else numbers // shape[-1] + numbers // shape[-2]
    return 4 * (second + (numbers if momentum else 0))


def quantised_bytes(plan: QuantizationPlan, shape: tuple[int, ...]) -> float:
    """What the weight of one linear layer, (outputs, inputs), takes in the base's few bits."""
    numbers = prod(shape)
    if plan.kind == "bnb_8bit":
        return numbers + 4 * shape[0]  # a float32 scale for each row (bitsandbytes Int8Params.SCB)
    if plan.kind == "gptq":
        bits = int(plan.settings.get("bits", 4))
        return numbers * bits / 8 + numbers / GROUP_GPTQ * (2 + bits / 8) + 4 * shape[1]
    scales = ceil(numbers / BLOCK_4BIT)
    if not plan.settings.get("bnb_4bit_use_double_quant"):
        return ceil(numbers / 2) + 4 * scales
    return ceil(numbers / 2) + scales + 4 * ceil(scales / BLOCK_SCALES)
