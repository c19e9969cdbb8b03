"""The trial that refuses packing: a model that leaks is caught, and the known architectures pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    Mamba2Config,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from axo.errors import RecipeError, TrainingError
from axo.objectives.causal_lm import CausalLM
from axo.objectives.isolation import check_isolation, is_doubtful
from axo.registry.tables import ATTENTION

SIZES = {
    "vocab_size": 67, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
DOUBTFUL: dict[str, Callable[[], PreTrainedConfig]] = {
    "mistral with a window": lambda: MistralConfig(**SIZES, sliding_window=5),
    "mixtral with a window": lambda: MixtralConfig(**SIZES, sliding_window=5, num_local_experts=4),
    "gemma2": lambda: Gemma2Config(**SIZES, head_dim=8, sliding_window=5),
    "qwen2 of two kinds of layers": lambda: Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
}
PLAIN: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=16),
    "mistral without a window": lambda: MistralConfig(**SIZES, sliding_window=None),
    "qwen2 with a window that is not used": lambda: Qwen2Config(**SIZES, use_sliding_window=False, sliding_window=5),
}


def objective_of(config: PreTrainedConfig, attention: str = "sdpa_varlen") -> CausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        name = ATTENTION.load(attention)(attention)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=name)
    return CausalLM(model, chunked=False, num_chunks=None, attn_implementation=attention)


class Blurred(nn.Module):
    """A layer that adds a little of the token before, whichever sample that is of."""

    def __init__(self, inner: nn.Module, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, hidden: torch.Tensor, **others: Any) -> torch.Tensor:
        return self.inner(hidden, **others) + self.share * hidden.roll(1, dims=1)


@pytest.mark.parametrize("attention", ["sdpa_varlen", "eager"])
@pytest.mark.parametrize("name", DOUBTFUL)
def test_known_models_keep_samples_apart(name: str, attention: str) -> None:
    objective = objective_of(DOUBTFUL[name](), attention)
    assert is_doubtful(objective.model)
    check_isolation(objective, key="sample_packing")


@pytest.mark.parametrize("name", PLAIN)
def test_models_of_plain_attention_need_no_trial(name: str) -> None:
    assert not is_doubtful(objective_of(PLAIN[name]()).model)


@pytest.mark.parametrize("share", [1.0, 1e-4])
def test_a_model_that_mixes_neighbours_is_refused(share: float) -> None:
    objective = objective_of(MistralConfig(**SIZES, sliding_window=5))
    layer: Any = objective.model.get_submodule("model.layers.0")
    layer.mlp = Blurred(layer.mlp, share)
    with pytest.raises(RecipeError) as refusal:
        check_isolation(objective, key="eval_sample_packing")
    (finding,) = refusal.value.findings
    assert finding.key == "eval_sample_packing" and "see each other" in finding.message
    assert finding.hint == "set eval_sample_packing: false"


def test_a_state_that_goes_from_sample_to_sample_is_refused() -> None:
    config = Mamba2Config(
        vocab_size=67, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=8, n_groups=2,
        chunk_size=8,
    )  # fmt: skip
    with pytest.raises(RecipeError, match="see each other"):
        check_isolation(objective_of(config, "eager"), key="sample_packing")


def test_code_that_came_with_a_model_is_tried() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(16, 4), nn.Linear(4, 16)

    assert is_doubtful(Own())


def test_modes_and_random_numbers_are_as_before() -> None:
    objective = objective_of(MistralConfig(**SIZES, sliding_window=5, attention_dropout=0.5))
    objective.train()
    objective.model.get_submodule("model.norm").eval()
    modes = [part.training for part in objective.modules()]
    torch.manual_seed(7)
    random.seed(7)
    state = torch.get_rng_state()
    check_isolation(objective, key="sample_packing")
    assert [part.training for part in objective.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_experts_may_differ_by_rounding_and_no_more() -> None:
    objective = objective_of(MixtralConfig(**SIZES, sliding_window=5, num_local_experts=4))
    layer: Any = objective.model.get_submodule("model.layers.0")
    layer.self_attn.o_proj = Blurred(layer.self_attn.o_proj, 1e-2)
    with pytest.raises(RecipeError):
        check_isolation(objective, key="sample_packing")


class Infectious(nn.Module):
    """A layer that lets the first sample turn the second into what is no number, once its tokens are others."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        out = self.inner(hidden_states, **kwargs)
        self.calls += 1
        hidden = out[0] if isinstance(out, tuple) else out
        if self.calls > 1:
            hidden[:, -1] = torch.nan
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden


def test_numbers_that_become_none_have_moved() -> None:
    objective = objective_of(DOUBTFUL["mistral with a window"]())
    layers: Any = objective.model.model.layers
    layers[0].mlp = Infectious(layers[0].mlp)
    with pytest.raises(RecipeError, match="moved the logits of its neighbour by inf"):
        check_isolation(objective, key="sample_packing")


def test_a_model_without_finite_logits_is_no_answer() -> None:
    objective = objective_of(DOUBTFUL["mistral with a window"]())
    with torch.no_grad():
        objective.model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="no finite logits"):
        check_isolation(objective, key="sample_packing")
