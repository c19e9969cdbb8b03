"""Batches built by hand and tiny random models for the objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from axo.types import IGNORE_INDEX, Batch

VOCAB = 61


def build_batch(
    samples: Sequence[tuple[Sequence[int], Sequence[bool]]],
    *,
    length: int | None = None,
    pad_token_id: int = 0,
    pad_left: bool = False,
    loss_chunks: int = 0,
) -> Batch:
    """One sample a row: its ids and which of them are trained; padding is a sample of its own."""
    length = length or max(len(ids) for ids, _ in samples)
    input_ids = torch.full((len(samples), length), pad_token_id)
    targets = torch.full((len(samples), length), IGNORE_INDEX)
    position_ids = torch.zeros((len(samples), length), dtype=torch.int64)
    bounds = [0]
    for row, (ids, trained) in enumerate(samples):
        size, padding = len(ids), length - len(ids)
        first = padding if pad_left else 0
        for at, token in enumerate(ids):
            input_ids[row, first + at] = token
            position_ids[row, first + at] = at
            if at + 1 < size and trained[at + 1]:
                targets[row, first + at] = ids[at + 1]
        pads = range(padding) if pad_left else range(size, length)
        for at, column in enumerate(pads):
            position_ids[row, column] = at
        inner = row * length + (padding if pad_left else size)
        bounds += [inner, (row + 1) * length] if padding and size else [(row + 1) * length]
    return Batch(input_ids, targets, position_ids, torch.tensor(bounds, dtype=torch.int32), loss_chunks=loss_chunks)


def build_samples(lengths: Sequence[int], *, seed: int = 0) -> list[tuple[list[int], list[bool]]]:
    """Random samples of which about two thirds of the tokens are trained, and always the last."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for length in lengths:
        ids = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        trained = (torch.rand(length, generator=generator) < 0.66).tolist()
        samples.append((ids, [*trained[:-1], True]))
    return samples


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return build_batch


@pytest.fixture
def make_samples() -> Callable[..., list[tuple[list[int], list[bool]]]]:
    return build_samples


@pytest.fixture
def make_llama() -> Callable[..., PreTrainedModel]:
    """A fresh random Llama each time, the same one for the same options."""

    def make(**options: object) -> PreTrainedModel:
        sizes: dict[str, object] = {
            "vocab_size": VOCAB,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
            "pad_token_id": 0,
        }
        torch.manual_seed(1)
        return LlamaForCausalLM(LlamaConfig(**{**sizes, **options}))

    return make
