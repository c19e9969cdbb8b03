"""A trial before training: whether samples side by side in a row stay unseen by one another in this model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from axo.errors import Finding, RecipeError, TrainingError
from axo.objectives.causal_lm import CausalLM
from axo.registry.tables import KNOWN_HEADS
from axo.types import IGNORE_INDEX, Batch

LENGTHS = (12, 20)
"""Tokens of the two samples of the trial."""
EXPERTS_TOLERANCE = 1e-6
"""Share of the largest logit that may differ with experts: how many tokens an expert gets decides how it sums."""
EIGHT_BIT_TOLERANCE = 0.05
"""The same for weights in 8 bits: outliers of one sample decide which columns of all are computed in 16 bits
(LLM.int8, arXiv 2208.07339, 3.2)."""


def check_isolation(
    objective: CausalLM, *, key: str, eight_bits: bool = False, autocast_dtype: torch.dtype | None = None
) -> None:
    """Change the tokens of one sample of a pack: the logits of the other must not move, by not one bit.

    For models of which that is not certain (`is_doubtful`). It may only refuse: RecipeError at `key`, the recipe's key
    that packs, or TrainingError where no logit is a number. Runs in evaluation mode without gradients; modes and random
    numbers are as before afterwards.
    """
    model = _plain(objective)
    if not is_doubtful(model):
        return
    device = objective.device
    batch = _two_samples(objective.vocab_size)
    with _undisturbed(objective), torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        before = _logits(objective, batch)
        largest = _largest(before)
        moved = max(
            _moved(before, _logits(objective, _changed(batch, changed, objective.vocab_size)), watched)
            for changed, watched in ((0, 1), (1, 0))
        )
    if moved > largest * _tolerance(model, before.dtype, eight_bits=eight_bits):
        message = (
            f"would let the samples of a pack see each other: in {type(model).__name__} with attention "
            f"{objective.attn_implementation}, other tokens in one sample moved the logits of its neighbour by "
            f"{moved:.3g} (largest logit {largest:.3g})"
        )
        raise RecipeError([Finding(key, message, f"set {key}: false")])


def is_doubtful(model: nn.Module) -> bool:
    """Whether the class or its layers are none whose attention is known to be plain: sliding windows, layers of several
    kinds, models that axo does not know, code that came with a model."""
    config: Any = getattr(model, "config", None)
    if config is None or not type(model).__module__.startswith("transformers.models."):
        return True
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ())
    windowed = bool(getattr(text, "sliding_window", None)) and getattr(text, "use_sliding_window", True)
    return windowed or not kinds <= {"full_attention"} or config.model_type not in KNOWN_HEADS


def _plain(objective: CausalLM) -> Any:
    unwrap = getattr(objective.model, "get_base_model", None)
    return objective.model if unwrap is None else unwrap()


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    module.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def _two_samples(vocab_size: int) -> Batch:
    """One row of two samples, their tokens spread over the vocabulary."""
    total = sum(LENGTHS)
    ids = (torch.arange(1, total + 1) * vocab_size // (total + 1))[None]
    return Batch(
        input_ids=ids,
        targets=torch.full_like(ids, IGNORE_INDEX),
        position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None],
        cu_seqlens=torch.tensor([0, LENGTHS[0], total], dtype=torch.int32),
    )


def _changed(batch: Batch, sample: int, vocab_size: int) -> Batch:
    """Every token of one sample replaced."""
    ids = batch.input_ids.clone()
    ids[:, _place(sample)] = (ids[:, _place(sample)] + vocab_size // 2) % vocab_size
    return replace(batch, input_ids=ids)


def _place(sample: int) -> slice:
    return slice(LENGTHS[0]) if sample == 0 else slice(LENGTHS[0], None)


def _logits(objective: CausalLM, batch: Batch) -> torch.Tensor:
    """(1, T, V)"""
    return objective.own_logits(batch.to(objective.device))


def _moved(before: torch.Tensor, after: torch.Tensor, sample: int) -> float:
    """The largest difference at a token of the sample. A number that becomes none has moved without bound; what was
    none before and is none afterwards tells nothing."""
    one, other = before[:, _place(sample)].float(), after[:, _place(sample)].float()
    same = (one == other) | (one.isnan() & other.isnan())
    return (one - other).abs().nan_to_num(torch.inf).masked_fill(same, 0.0).max().item()


def _largest(logits: torch.Tensor) -> float:
    """Raises TrainingError where not one of them is a number."""
    finite = logits[logits.isfinite()]
    if not finite.numel():
        hint = "check the weights of base_model, and that its numbers fit the format it computes in (bf16, fp16)"
        raise TrainingError("the model gives no finite logits for a short text", hint)
    return finite.abs().max().item()


def _tolerance(model: Any, dtype: torch.dtype, *, eight_bits: bool) -> float:
    text = model.config.get_text_config(decoder=True) if hasattr(model, "config") else None
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    has_experts = any(getattr(text, name, None) for name in names)
    if eight_bits:
        return EIGHT_BIT_TOLERANCE
    return max(EXPERTS_TOLERANCE, 2 * torch.finfo(dtype).eps) if has_experts else 0.0
