"""A base model whose frozen weights are stored in few bits."""

from __future__ import annotations

from typing import Any

from axo.plan.plan import QuantizationPlan


def quantization_arguments(plan: QuantizationPlan) -> dict[str, Any]:
    """Arguments of transformers' from_pretrained that load the base as the Plan says."""
    assert plan.kind is None
    return {}


def settle(model: Any, plan: QuantizationPlan) -> None:
    """What a quantised model needs once, behind loading."""
    assert plan.kind is None
    del model
