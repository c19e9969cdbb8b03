"""FLOPs of a model against torch's own counter and numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from axo.plan.flops import find_costs

TINY: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip


def test_training_flops_are_those_that_torch_counts() -> None:
    """Eager attention compares all pairs, so n tokens are n * n pairs here."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**TINY, attn_implementation="eager", use_cache=False))
    ids = torch.arange(17)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    costs = find_costs(TINY, frozen=False)
    assert costs is not None
    assert counter.get_total_flops() == 17 * (costs.token + costs.target) + 17 * 17 * costs.pair


def test_numbers_worked_out_by_hand() -> None:
    """A layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 48; 3 layers, a head of 32 x 96; 2 x 4 x (8 + 8) FLOPs
    of attention for a pair. Forward and backward are 3 times forward; without gradients of weights, 2 times."""
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48
    costs = find_costs(TINY, frozen=False)
    assert costs is not None
    assert (costs.token, costs.target, costs.pair) == (3 * 2 * 3 * layer, 3 * 2 * 32 * 96, 3 * 3 * 2 * 4 * 16)
    frozen = find_costs(TINY, frozen=True)
    assert frozen is not None
    assert (frozen.token, frozen.target, frozen.pair) == (2 * 2 * 3 * layer, 2 * 2 * 32 * 96, costs.pair)


def test_a_model_type_that_is_not_known_is_taken_for_a_usual_one() -> None:
    assert find_costs({**TINY, "model_type": "quite-new"}, frozen=False) == find_costs(TINY, frozen=False)
    assert find_costs({"model_type": "quite-new"}, frozen=False) is None
    assert find_costs(None, frozen=False) is None


def test_a_token_meets_only_some_experts() -> None:
    """Mixtral: a router of 32 x 8, and 2 of 8 experts of three matrices of 32 x 48."""
    config = {**TINY, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}
    costs = find_costs(config, frozen=False)
    assert costs is not None
    assert costs.token == 3 * 2 * 3 * (2 * 32 * 32 + 2 * 32 * 16 + 32 * 8 + 2 * 3 * 32 * 48)


@pytest.mark.parametrize(
    ("keys", "full", "windowed"),
    [
        ({"sliding_window": 64}, 0, 3),
        ({"sliding_window": 64, "use_sliding_window": False}, 3, 0),
        ({"sliding_window": 64, "sliding_window_pattern": 3}, 1, 2),
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention", "linear_attention"]}, 1, 1),
        ({"sliding_window": None}, 3, 0),
    ],
)
def test_layers_with_a_window_are_counted_apart(keys: dict[str, Any], full: int, windowed: int) -> None:
    costs = find_costs({**TINY, "model_type": "mistral", **keys}, frozen=False)
    assert costs is not None
    pair = 3 * 2 * 4 * 16
    assert (costs.pair, costs.windowed_pair) == (full * pair, windowed * pair)
    assert costs.window == (64 if windowed else None)
