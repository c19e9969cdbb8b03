"""Builds the parts of a worker that only the Plan decides: the engine and the objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from axo.adapters.base import Adapter, trainable_parameters
from axo.adapters.full import Full
from axo.engines.base import Engine
from axo.errors import TrainingError
from axo.objectives.causal_lm import CausalLM, check_head
from axo.objectives.logits import logit_transform
from axo.plan.plan import Plan
from axo.registry.tables import ENGINES

READABLE = 0o644


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


def save_model(
    adapter: Adapter, objective: CausalLM, tokenizer: Any, folder: Path, *, eot_tokens: Sequence[str] = ()
) -> None:
    """What others load: adapter or model, with tokenizer and chat template beside it.

    A model stops at the tokenizer's end-of-sequence token and at those `eot_tokens` that are one token."""
    if isinstance(adapter, Full):
        _end_as_taught(objective.model, tokenizer, eot_tokens)
    adapter.save(objective.model, folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    for path in folder.glob("*.safetensors"):
        path.chmod(READABLE)  # safetensors makes files that only their owner can read


def _end_as_taught(model: Any, tokenizer: Any, eot_tokens: Sequence[str]) -> None:
    """A model that plain transformers generates with must stop at the tokens that it was taught to end with."""
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        config.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    former = model.generation_config.eos_token_id
    before = former if isinstance(former, list) else [former]
    turn_ends = (tokenizer.encode(token, add_special_tokens=False) for token in eot_tokens)
    single = [ids[0] for ids in turn_ends if len(ids) == 1]
    ends = [end for end in dict.fromkeys([tokenizer.eos_token_id, *single, *before]) if end is not None]
    if set(ends) != {end for end in before if end is not None}:
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]


def describe_trained(objective: CausalLM, plan: Plan) -> str:
    """One line: how much is trained, in which number format. Raises TrainingError where that is not the Plan's."""
    trained = trainable_parameters(objective)
    found = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in trained})
    planned = {plan.precision.model_dtype, plan.precision.adapter_dtype}
    if not set(found) <= planned:
        raise TrainingError(f"weights are trained in {', '.join(found)}, the Plan says {', '.join(sorted(planned))}")
    count = sum(parameter.size for parameter in trained)
    total = sum(parameter.numel() for parameter in objective.parameters())
    return f"training {count:,} of {total:,} parameters ({count / total:.2%}), {len(trained)} tensors in {found[0]}"


def _autocast_dtype(plan: Plan) -> torch.dtype | None:
    name = plan.precision.autocast_dtype
    return getattr(torch, name) if name else None
