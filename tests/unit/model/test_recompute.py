"""Recomputation changes memory, never gradients."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GPT2Config, MistralConfig

from axo.errors import RecipeError
from axo.model.recompute import enable_recompute
from axo.objectives.inputs import attention_kwargs
from axo.plan.plan import RecomputePlan
from axo.recipe.adapters import AdapterSection
from axo.registry.tables import ADAPTERS, ATTENTION
from axo.types import Batch

WHOLE = RecomputePlan(every=1)
ADAPTER_KEYS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True, "lora_dropout": 0.2},
    "lora_saving_head": {
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_target_modules": "all-linear",
        "lora_modules_to_save": ["lm_head"],
    },
}


def make_batch() -> Batch:
    ids = torch.randint(400, (2, 12), generator=torch.Generator().manual_seed(3))
    positions = torch.cat([torch.arange(7), torch.arange(5)]).repeat(2, 1)
    return Batch(ids, ids, positions, torch.tensor([0, 7, 12, 19, 24], dtype=torch.int32))


def build(source: Path | str, *, keys: dict[str, Any], recompute: RecomputePlan | None = None, layers: int = 2) -> Any:
    attention = ATTENTION.load("sdpa_varlen")("sdpa_varlen")
    configs = {
        "gpt2": GPT2Config(vocab_size=400, n_positions=32, n_embd=16, n_layer=layers, n_head=2, attn_pdrop=0.1),
        "gemma2": Gemma2Config(
            vocab_size=400,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            attention_dropout=0.1,
        ),
        "mistral": MistralConfig(
            vocab_size=400,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=4,
        ),
        "gemma3": Gemma3TextConfig(
            vocab_size=400,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=4,
            layer_types=(["sliding_attention", "full_attention"] * layers)[:layers],
        ),
    }
    torch.manual_seed(0)
    if isinstance(source, Path):
        model = AutoModelForCausalLM.from_pretrained(source, attn_implementation=attention)
    else:
        model = AutoModelForCausalLM.from_config(configs[source], attn_implementation=attention)
    section = AdapterSection(**keys)
    adapted = ADAPTERS.load(section.adapter or "full")(section).apply(model, dtype=torch.float32)
    if recompute is not None:
        enable_recompute(adapted, recompute)
    return adapted.train()


def calls_of_each_layer(model: Any) -> list[int]:
    """How often the feed-forward layer of each is computed in one forward and backward pass."""
    calls = [0] * len(model.model.layers)

    def count(*_: Any, index: int) -> None:
        calls[index] += 1

    for index, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_pre_hook(partial(count, index=index))
    model(**attention_kwargs(make_batch(), attn_implementation="sdpa_varlen")).logits.sum().backward()
    return calls


def attention_calls(model: Any) -> int:
    """How often an operator of torch computes attention in one forward and backward pass."""

    class Counting(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls += "scaled_dot_product" in str(func) and "backward" not in str(func)
            return func(*args, **(kwargs or {}))

    with Counting() as counting:
        model(**attention_kwargs(make_batch(), attn_implementation="sdpa_varlen")).logits.sum().backward()
    return counting.calls


def gradients(model: Any) -> list[dict[str, torch.Tensor]]:
    """Gradients of two steps, the first of which moves the weights (a fresh lora_B keeps lora_A still)."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = []
    torch.manual_seed(7)
    for _ in range(2):
        optimizer.zero_grad()
        logits = model(**attention_kwargs(make_batch(), attn_implementation="sdpa_varlen")).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), make_batch().input_ids.flatten()).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
        optimizer.step()
    return found


@pytest.mark.parametrize("keys", ADAPTER_KEYS.values(), ids=ADAPTER_KEYS.keys())
@pytest.mark.parametrize("source", ["llama", "gpt2", "gemma2"])
def test_gradients_are_equal_and_none_is_zero_at_the_second_backward(
    source: str, keys: dict[str, Any], tiny_llama_dir: Path
) -> None:
    place = tiny_llama_dir if source == "llama" else source
    if source != "llama" and "lora_modules_to_save" in keys:
        keys = {**keys, "lora_modules_to_save": ["wte" if source == "gpt2" else "embed_tokens"]}
    kept = gradients(build(place, keys=keys))
    recomputed = gradients(build(place, keys=keys, recompute=WHOLE))
    for before, after in zip(kept, recomputed, strict=True):
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, atol=1e-6, rtol=1e-5)
    still = [name for name, gradient in recomputed[1].items() if not gradient.any()]
    assert still == []


def test_layers_are_computed_again_in_the_backward_pass(tiny_llama_dir: Path) -> None:
    assert calls_of_each_layer(build(tiny_llama_dir, keys={})) == [1, 1]
    assert calls_of_each_layer(build(tiny_llama_dir, keys={}, recompute=WHOLE)) == [2, 2]


def test_each_third_layer_can_be_recomputed_alone_and_gradients_stay_equal() -> None:
    plan = RecomputePlan(every=3)
    kept, recomputed = (build("mistral", keys={}, recompute=one, layers=5) for one in (None, plan))
    assert calls_of_each_layer(recomputed) == [2, 1, 1, 2, 1]
    for before, after in zip(gradients(kept), gradients(recomputed), strict=True):
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("source", ["llama", "mistral", "gemma3"])
def test_results_of_attention_are_kept_and_gradients_stay_equal(source: str, tiny_llama_dir: Path) -> None:
    place = tiny_llama_dir if source == "llama" else source
    keys = ADAPTER_KEYS["lora"]  # with dropout before and behind attention: both passes must draw the same numbers
    plan = RecomputePlan(every=1, keep=("attention",))
    kept, selected = (build(place, keys=keys, recompute=one) for one in (None, plan))
    for before, after in zip(gradients(kept), gradients(selected), strict=True):
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, atol=1e-6, rtol=1e-5)
    assert (attention_calls(selected), attention_calls(kept)) == (attention_calls(kept), attention_calls(kept))


def test_what_is_kept_can_be_said_by_names_of_operators_and_kinds_of_layers() -> None:
    forward = attention_calls(build("gemma3", keys={}))
    whole = attention_calls(build("gemma3", keys={}, recompute=WHOLE))
    named = RecomputePlan(every=1, keep=("aten::_scaled_dot",))
    full_only = RecomputePlan(every=1, keep=("attention",), keep_nothing_in=("sliding_attention",))
    other = RecomputePlan(every=1, keep=("aten::mm",))
    counts = [attention_calls(build("gemma3", keys={}, recompute=plan)) for plan in (named, full_only, other)]
    assert forward < counts[1] < whole
    assert counts == [forward, counts[1], whole]


def test_gradients_can_be_asked_for_by_name(tiny_llama_dir: Path) -> None:
    """The re-entrant kind refuses torch.autograd.grad and fires the hooks of DDP more than once."""
    model = build(tiny_llama_dir, keys=ADAPTER_KEYS["full"], recompute=WHOLE)
    loss = model(**attention_kwargs(make_batch(), attn_implementation="sdpa_varlen")).logits.sum()
    assert all(gradient.any() for gradient in torch.autograd.grad(loss, list(model.parameters())[:2]))


def test_a_model_without_layers_to_recompute_is_refused(tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(RecipeError, match=r"gradient_checkpointing: the layers .* LlamaForCausalLM"):
        enable_recompute(model, RecomputePlan(every=1))
