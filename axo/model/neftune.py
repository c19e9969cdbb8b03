"""Uniform noise on the embeddings while training (NEFTune: Jain et al. 2023, arXiv 2310.05914, algorithm 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def add_noise(model: Any, alpha: float) -> None:
    """Let the embeddings of a transformers model, or of a PeftModel around one, add noise in training mode.

    Each number gets alpha / sqrt(L * D) times a draw from U(-1, 1): L tokens of its own sample, D the width. A sample
    has the same noise in a pack, in a row of its own, and beside padding, which transformers counts into L. The draws
    come from torch's generator, one for each number of (B, T, D)."""
    noise = _Noise(alpha)
    unwrap = getattr(model, "get_base_model", None)
    inner: nn.Module = (model if unwrap is None else unwrap()).base_model
    inner.register_forward_pre_hook(noise.see_positions, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(noise.add)


def sample_lengths(position_ids: torch.Tensor) -> torch.Tensor:
    """(B, T) int64: of every token the length of its sample; a sample begins where a position is 0, or at a row."""
    place = torch.arange(position_ids.shape[-1], device=position_ids.device).expand_as(position_ids)
    starts = (position_ids == 0) | (place == 0)
    first = torch.where(starts, place, 0).cummax(-1).values
    behind = torch.where(starts, place, place.shape[-1]).roll(-1, -1)  # where the next sample begins, or the row ends
    behind[..., -1] = place.shape[-1]
    return behind.flip(-1).cummin(-1).values.flip(-1) - first


class _Noise:
    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._position_ids: torch.Tensor | None = None

    def see_positions(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._position_ids = kwargs.get("position_ids")

    def add(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        ids, position_ids = args[0], self._position_ids
        lengths = torch.full_like(ids, ids.shape[-1]) if position_ids is None else sample_lengths(position_ids)
        bound = self._alpha / torch.sqrt(lengths.float() * output.shape[-1])
        return output + torch.zeros_like(output).uniform_(-1, 1) * bound[..., None].to(output)
