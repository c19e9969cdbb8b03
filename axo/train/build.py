"""Builds the parts of a worker that only the Plan decides: the engine and the objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from axo.adapters.base import Adapter
from axo.engines.base import Engine
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.logits import logit_transform
from axo.plan.plan import Plan
from axo.registry.tables import ENGINES


def make_engine(plan: Plan) -> Engine:
    return ENGINES.load(plan.engine.name)(
        device=plan.engine.device,
        autocast_dtype=_autocast_dtype(plan),
        timeout_seconds=plan.engine.timeout_seconds,
    )


def make_objective(model: torch.nn.Module, plan: Plan) -> CausalLM:
    """The objective of a causal model; its chunked loss is compared with the model's own logits first."""
    objective = CausalLM(
        model,
        chunked=plan.loss.chunked,
        num_chunks=plan.loss.num_chunks,
        attn_implementation=plan.attn_implementation,
        transform=logit_transform(model.config),
    )
    if plan.loss.chunked:
        check_head(objective, autocast_dtype=_autocast_dtype(plan))
    return objective


def save_model(adapter: Adapter, objective: CausalLM, tokenizer: Any, folder: Path) -> None:
    """What others load: adapter or model, with tokenizer and chat template beside it."""
    adapter.save(objective.model, folder)
    tokenizer.save_pretrained(folder)


def _autocast_dtype(plan: Plan) -> torch.dtype | None:
    name = plan.precision.autocast_dtype
    return getattr(torch, name) if name else None
