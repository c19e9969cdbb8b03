"""What models do to the output of their head before it counts as logits: a factor and a soft cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

SOFTCAP_KEYS = ("final_logit_softcapping", "logits_soft_cap")
"""Keys of config.json that hold a cap c: logits become c * tanh(logits / c) (Gemma 2, arXiv 2408.00118, section 2)."""
MULTIPLIER_KEYS = ("logit_scale", "lm_head_multiplier")
"""Keys that logits are multiplied by (transformers: cohere, cohere2; falcon_h1)."""
DIVISOR_KEY = "logits_scaling"
"""Key that logits are divided by (transformers: granite and its relatives)."""
MULTIPLYING_TYPES = frozenset({"hyperclovax"})
"""Model types that multiply by DIVISOR_KEY instead (transformers.models.hyperclovax)."""


@dataclass(frozen=True)
class LogitTransform:
    """logits -> softcap * tanh(scale * logits / softcap), in the dtype of the logits, as the models compute it."""

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


IDENTITY = LogitTransform()


def logit_transform(config: Any) -> LogitTransform:
    """The transform that a transformers config asks for. It is exact for the types of KNOWN_HEADS; for any other
    type it is a reading of well-known keys, which check_head compares with the model."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    softcaps = [value for key in SOFTCAP_KEYS if (value := getattr(text, key, None))]
    return LogitTransform(scale=_scale(text), softcap=softcaps[0] if softcaps else None)


def _scale(config: Any) -> float:
    scale = 1.0
    for key in MULTIPLIER_KEYS:
        value = getattr(config, key, None)
        scale *= 1.0 if value is None else value
    divisor = getattr(config, DIVISOR_KEY, None)
    if divisor is None:
        return scale
    return scale * divisor if config.model_type in MULTIPLYING_TYPES else scale / divisor
