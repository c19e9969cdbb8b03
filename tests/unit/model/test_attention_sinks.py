"""Attention sinks of gpt-oss in packed batches, against transformers' eager attention of each sample alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForCausalLM, GptOssConfig, PreTrainedModel

from axo.objectives.inputs import attention_kwargs
from axo.registry.tables import ATTENTION
from axo.types import Batch

BOUNDS = [0, 7, 8, 20, 27, 30]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    config = GptOssConfig(
        vocab_size=67, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=5,
        max_position_embeddings=64, initializer_range=0.2, pad_token_id=None, eos_token_id=None,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for name, parameter in model.named_parameters():
            if name.endswith("sinks"):
                torch.nn.init.normal_(parameter, std=2.0)
    return model.eval()


def test_logits_and_gradients_are_those_of_each_sample_alone(model: PreTrainedModel) -> None:
    ids = torch.randint(67, (1, BOUNDS[-1]), generator=torch.Generator().manual_seed(2))
    positions = torch.cat([torch.arange(b - a) for a, b in pairwise(BOUNDS)])[None]
    batch = Batch(ids, torch.full_like(ids, -100), positions, torch.tensor(BOUNDS, dtype=torch.int32))
    weights = torch.randn((BOUNDS[-1], 67), generator=torch.Generator().manual_seed(1))
    parameters = dict(model.named_parameters())

    model.set_attn_implementation("eager")
    alone = torch.cat([model(ids[:, a:b], use_cache=False).logits[0] for a, b in pairwise(BOUNDS)])
    expected = torch.autograd.grad((alone * weights).sum(), list(parameters.values()))
    model.set_attn_implementation(ATTENTION.load("sdpa_varlen")("sdpa_varlen"))
    packed = model(**attention_kwargs(batch, attn_implementation="sdpa_varlen")).logits[0]
    gradients = torch.autograd.grad((packed * weights).sum(), list(parameters.values()))

    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    for name, ours, theirs in zip(parameters, gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, msg=name)
        assert not name.endswith("sinks") or ours.abs().max() > 1e-4
